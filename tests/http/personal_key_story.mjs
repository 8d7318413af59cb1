// usage: node personal_key_story.mjs BASE KEY
// OpenAI's own client for Node.js with a personal API key: one JSON line for each step,
// {"step", "said"}. A step that is refused says the class, the status and the code.
import { createRequire } from "node:module";

const require = createRequire(new URL("../clients/", import.meta.url));
const { OpenAI } = require("openai");
const [base, key] = process.argv.slice(2);
const client = new OpenAI({ baseURL: `${base}/v1`, apiKey: key, maxRetries: 0 });
const messages = [{ role: "user", content: "Hello?" }];

async function step(name, work) {
  let said;
  try {
    said = await work();
  } catch (error) {
    said = [error.constructor.name, error.status ?? null, error.code ?? String(error)];
  }
  console.log(JSON.stringify({ step: name, said }));
}

await step("models", async () => {
  const ids = [];
  for await (const one of client.models.list()) ids.push(one.id);
  return ids.includes("fake/model");
});
await step("whole", async () => {
  const made = await client.chat.completions.create({ model: "fake/model", messages });
  return made.choices[0].message.content;
});
await step("streamed", async () => {
  let text = "";
  const stream = await client.chat.completions.create({ model: "fake/model", messages, stream: true });
  for await (const chunk of stream) text += chunk.choices[0]?.delta.content ?? "";
  return text;
});
