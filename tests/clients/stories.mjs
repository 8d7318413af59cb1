// What all stories have in common: how a step is told, and how what it saw is compared.

// Lives a step and prints its line: {"step", "error"?}. No step stops another.
export const step = async (name, live) => {
  const line = { step: name };
  try {
    await live();
  } catch (error) {
    line.error = `${error.name}: ${error.message}`.slice(0, 500);
  }
  console.log(JSON.stringify(line));
};

export const same = (got, wanted, what) => {
  if (JSON.stringify(got) !== JSON.stringify(wanted))
    throw new Error(`${what}: ${JSON.stringify(got)} instead of ${JSON.stringify(wanted)}`);
};
