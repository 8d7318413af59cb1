/** Browser storage that may be blocked or full: then nothing is kept, and nothing breaks. */

export function read(key: string): string | null {
  try {
    return localStorage.getItem(key);
  } catch {
    return null;
  }
}

/** False where it is blocked or full: then what stood there before still does. */
export function write(key: string, value: string): boolean {
  try {
    if (value === "") localStorage.removeItem(key);
    else localStorage.setItem(key, value);
    return true;
  } catch {
    return false;
  }
}

/** What this window remembers over a reload, and no other window sees. */
export function readHere(key: string): string | null {
  try {
    return sessionStorage.getItem(key);
  } catch {
    return null;
  }
}

export function writeHere(key: string, value: string): void {
  try {
    if (value === "") sessionStorage.removeItem(key);
    else sessionStorage.setItem(key, value);
  } catch {
    // Blocked or full: losing a draft is better than losing the page.
  }
}

export function keysByPrefix(prefix: string): string[] {
  try {
    return Object.keys(localStorage).filter((key) => key.startsWith(prefix));
  } catch {
    return [];
  }
}

/** Remove them also from what only this window remembers. */
export function removeByPrefix(prefix: string): void {
  // Where it is blocked there is nothing to remove.
  for (const key of keysByPrefix(prefix)) localStorage.removeItem(key);
  for (const key of keysHere(prefix)) sessionStorage.removeItem(key);
}

function keysHere(prefix: string): string[] {
  try {
    return Object.keys(sessionStorage).filter((key) => key.startsWith(prefix));
  } catch {
    return [];
  }
}

// What could not be kept lives as long as this page.
const unkept = new Map<string, string>();

/** For the sign-in client, which would take a storage that is full for none, and find nobody signed in. */
export const forSessions = {
  getItem: (key: string) => unkept.get(key) ?? read(key),
  setItem: (key: string, value: string) => {
    if (write(key, value)) unkept.delete(key);
    else unkept.set(key, value);
  },
  removeItem: (key: string) => {
    unkept.delete(key);
    write(key, "");
  },
};
