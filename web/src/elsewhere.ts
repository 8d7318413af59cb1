/**
 * What the pages of one browser tell each other: that a chat has changed, and that somebody left.
 *
 * A page that is hidden asks the server when it comes back; this is for two windows side by side.
 * One channel for everything this page sends and hears, so that it never hears itself.
 */
import { openChannel } from "./channels";

interface Heard {
  /** The chat that was changed. */
  chat: string;
  /** Somebody signed out on purpose. */
  left: true;
}

const channel = openChannel("chatkeep:pages");

function hear<K extends keyof Heard>(kind: K, heard: (value: Heard[K]) => void): () => void {
  const listener = ({ data }: MessageEvent<Partial<Heard>>) => {
    const value = data[kind];
    if (value !== undefined) heard(value);
  };
  channel.addEventListener("message", listener);
  return () => channel.removeEventListener("message", listener);
}

export function tellChanged(id: string): void {
  channel.postMessage({ chat: id });
}

/** Call *changed* with the id of each chat that another page changes, until the returned function is called. */
export function watchChanges(changed: (id: string) => void): () => void {
  return hear("chat", changed);
}

export function tellLeaving(): void {
  channel.postMessage({ left: true });
}

export function watchLeaving(left: () => void): () => void {
  return hear("left", left);
}
