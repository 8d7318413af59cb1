/** Browser storage that may be blocked or full: then nothing is kept, and nothing breaks. */

export function read(key: string): string | null {
  try {
    return localStorage.getItem(key);
  } catch {
    return null;
  }
}

export function write(key: string, value: string): void {
  try {
    if (value === "") localStorage.removeItem(key);
    else localStorage.setItem(key, value);
  } catch {
    // Blocked or full: losing a draft is better than losing the page.
  }
}

export function removeByPrefix(prefix: string): void {
  try {
    for (const key of Object.keys(localStorage)) {
      if (key.startsWith(prefix)) localStorage.removeItem(key);
    }
  } catch {
    // Blocked: there is nothing to remove.
  }
}
