/**
 * Has formulas typeset, one after the other, by a worker that is begun with the first of them.
 *
 * Whatever takes longer than a formula takes stays as it was written, and the worker is ended.
 */
import type { Typeset } from "./formula-mathml";

const LONGEST_MS = 2_000;
const MOST_KEPT = 500;

interface Job {
  tex: string;
  display: boolean;
  done: (typeset: Typeset | null) => void;
}

class TookTooLong extends Error {}

const kept = new Map<string, Typeset | null>();
const waiting: Job[] = [];
let worker: Worker | null = null;
let busy = false;

function nameOf(tex: string, display: boolean): string {
  return `${display ? "[" : "("}${tex}`;
}

/** What came of *tex* before; undefined: it was not typeset yet. */
export function typesetBefore(tex: string, display: boolean): Typeset | null | undefined {
  return kept.get(nameOf(tex, display));
}

/** *tex* as MathML; null where it cannot be shown. */
export function typesetOf(tex: string, display: boolean): Promise<Typeset | null> {
  const before = typesetBefore(tex, display);
  if (before !== undefined) return Promise.resolve(before);
  return new Promise((done) => {
    waiting.push({ tex, display, done });
    if (!busy) void work();
  });
}

/** One worker, with the styles of what it makes; both are loaded with the first formula. */
async function begun(): Promise<Worker> {
  await import("./formula.css");
  return (worker ??= new Worker(new URL("./typesetter.ts", import.meta.url), { type: "module" }));
}

async function work(): Promise<void> {
  busy = true;
  for (let job = waiting.shift(); job; job = waiting.shift()) {
    const typeset = typesetBefore(job.tex, job.display) ?? (await asked(job));
    if (kept.size >= MOST_KEPT) kept.clear();
    if (typeset !== undefined) kept.set(nameOf(job.tex, job.display), typeset);
    job.done(typeset ?? null);
  }
  busy = false;
}

/** What the worker makes of it; undefined: it could not be loaded, and may be the next time. */
async function asked({ tex, display }: Job): Promise<Typeset | null | undefined> {
  try {
    const asking = await begun();
    return await new Promise<Typeset | null>((resolve, reject) => {
      // Its code has to arrive before the first.
      const timer = setTimeout(() => reject(new TookTooLong()), kept.size === 0 ? 10 * LONGEST_MS : LONGEST_MS);
      asking.onmessage = ({ data }: MessageEvent<Typeset | null>) => {
        clearTimeout(timer);
        resolve(data);
      };
      asking.onerror = () => {
        clearTimeout(timer);
        reject(new Error("The worker failed."));
      };
      asking.postMessage({ tex, display });
    });
  } catch (error) {
    console.info("A formula stays as it was written:", error);
    worker?.terminate();
    worker = null;
    return error instanceof TookTooLong ? null : undefined;
  }
}
