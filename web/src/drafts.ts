/**
 * What a person has typed and not sent, per conversation.
 *
 * Drafts carry their owner in the key, so they outlive an expired session and are there again
 * after signing in, yet the next person on the same browser never sees them. Signing out on
 * purpose removes them.
 */
import { read, removeByPrefix, write } from "./storage";

const PREFIX = "chatkeep:draft:";

export interface Drafts {
  get(conversation: string): string;
  set(conversation: string, text: string): void;
}

export function draftsOf(userId: string): Drafts {
  const key = (conversation: string) => `${PREFIX}${userId}:${conversation}`;
  return {
    get: (conversation) => read(key(conversation)) ?? "",
    set: (conversation, text) => write(key(conversation), text),
  };
}

export function forgetDrafts(userId: string): void {
  removeByPrefix(`${PREFIX}${userId}:`);
}
