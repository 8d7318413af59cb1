/**
 * Which of this browser's windows this one is, so that each can keep something for itself.
 *
 * A window holds a lock of its name for as long as it lives, and remembers the name over a reload.
 * A name that nobody holds is that of a window that was closed, or went with the browser.
 */
import { newId } from "./ids";
import { readHere, writeHere } from "./storage";

const NAME_KEY = "chatkeep:window";
const LOCK = "chatkeep:window:";
// How long the page before, of the same window, may take to let its name go.
const LEAVING_MS = 1_000;

/** All windows, where the browser knows no locks (pages on plain http) or denies them. */
export const ALL_WINDOWS = "";

/** Hold *name* for as long as this page lives; false when another window does, and still does after a moment. */
function hold(name: string): Promise<boolean> {
  return new Promise((resolve, reject) => {
    const keep = () => {
      resolve(true);
      return new Promise<never>(() => {});
    };
    navigator.locks.request(LOCK + name, { signal: AbortSignal.timeout(LEAVING_MS) }, keep).catch((error: unknown) => {
      if (error instanceof DOMException && error.name === "TimeoutError") resolve(false);
      else reject(error);
    });
  });
}

async function findName(): Promise<string> {
  if (!navigator.locks) return ALL_WINDOWS;
  try {
    const before = readHere(NAME_KEY);
    if (before !== null && (await hold(before))) return before;
    const name = newId();
    await hold(name);
    writeHere(NAME_KEY, name);
    return name;
  } catch (error) {
    // Pages that may keep nothing are denied locks, too.
    console.info("This window has no name of its own:", error);
    return ALL_WINDOWS;
  }
}

let name: Promise<string> | null = null;

/** The name of this window, the same each time. */
export function nameOfWindow(): Promise<string> {
  return (name ??= findName());
}

/** Do *work* while no other window does its own; it is told which names windows hold. */
export async function withLivingWindows(work: (living: ReadonlySet<string>) => void): Promise<void> {
  await navigator.locks.request("chatkeep:windows", async () => {
    const { held = [] } = await navigator.locks.query();
    const names = held.flatMap(({ name: lock = "" }) => (lock.startsWith(LOCK) ? [lock.slice(LOCK.length)] : []));
    work(new Set(names));
  });
}
