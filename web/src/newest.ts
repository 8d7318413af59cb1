/**
 * Parts of the page that are loaded when they are needed. Where a newer version was deployed
 * meanwhile their files are gone: the page is loaded again, once, and what was typed is kept.
 */

const KEY = "chatkeep:loaded-again";
const ONCE_IN_MS = 60_000;

export async function partOf<T>(load: () => Promise<T>): Promise<T> {
  try {
    return await load();
  } catch (error) {
    if (!navigator.onLine || !firstTime()) throw error;
    location.reload();
    return new Promise(() => {});
  }
}

function firstTime(): boolean {
  try {
    const before = Number(sessionStorage.getItem(KEY));
    if (Date.now() - before < ONCE_IN_MS) return false;
    sessionStorage.setItem(KEY, String(Date.now()));
    return true;
  } catch {
    // Without a memory it could go round in circles.
    return false;
  }
}
