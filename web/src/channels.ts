/** How pages of one browser reach each other. Browsers deny it where they may keep nothing: then each is alone. */

type Channel = Pick<BroadcastChannel, "postMessage" | "addEventListener" | "removeEventListener" | "close">;

/** The channel called *name*; one that nobody hears where the browser denies it. */
export function openChannel(name: string): Channel {
  try {
    return new BroadcastChannel(name);
  } catch {
    return Object.assign(new EventTarget(), { postMessage: () => {}, close: () => {} }) as Channel;
  }
}
