/**
 * What a person has typed and not sent, for each conversation and window.
 *
 * Drafts carry their owner in the key, so they outlive an expired session and are there again
 * after signing in, yet the next person on the same browser never sees them. Signing out on
 * purpose removes them.
 *
 * What was typed in a window that is gone is there again in the next one that opens the same
 * conversation; what several such windows have left, in as many.
 */
import { keysByPrefix, read, readHere, removeByPrefix, write, writeHere } from "./storage";
import { ALL_WINDOWS, nameOfWindow, withLivingWindows } from "./windows";

const PREFIX = "chatkeep:draft:";
/** What the draft of the next new chat is asked for by. */
export const NEW = "new";

export interface Drafts {
  get(place: string): string;
  set(place: string, text: string): void;
  /** Take over what windows that are gone have left at *place* and in it, where this one has nothing. */
  open(place: string): Promise<void>;
}

/** Where the new words of a message stand that is edited. */
export function editOf(conversation: string, message: string): string {
  return `${conversation}/${message}`;
}

const opened = new Map<string, Promise<Drafts>>();

/** The drafts of *userId*, as this page has them: the same each time. */
export function draftsOf(userId: string): Promise<Drafts> {
  const drafts = opened.get(userId) ?? openDrafts(userId);
  opened.set(userId, drafts);
  return drafts;
}

async function openDrafts(userId: string): Promise<Drafts> {
  const prefix = `${PREFIX}${userId}:`;
  const name = await nameOfWindow();
  const keyOf = (place: string) => (name === ALL_WINDOWS ? prefix + place : `${prefix}${place}:${name}`);

  const takeOver = (wanted: string, living: ReadonlySet<string>) => {
    for (const key of keysByPrefix(prefix + wanted)) {
      const [place = "", window = ALL_WINDOWS] = key.slice(prefix.length).split(":");
      const own = keyOf(place);
      const text = read(key);
      const within = place === wanted || place.startsWith(`${wanted}/`);
      if (!within || living.has(window) || text === null || read(own) !== null) continue;
      // In this order there is room for it, however full the storage is.
      write(key, "");
      keep(own, text);
    }
  };
  const drafts: Drafts = {
    get: (place) => read(keyOf(place)) ?? readHere(keyOf(place)) ?? "",
    set: (place, text) => keep(keyOf(place), text),
    open: async (place) => {
      if (name !== ALL_WINDOWS) await withLivingWindows((living) => takeOver(place, living));
    },
  };
  await drafts.open(NEW);
  return drafts;
}

/** Keep *text*; where there is no room for it, over a reload of this window at least. */
function keep(key: string, text: string): void {
  const kept = write(key, text);
  if (!kept) write(key, "");
  writeHere(key, kept ? "" : text);
}

export function forgetDrafts(userId: string): void {
  removeByPrefix(`${PREFIX}${userId}:`);
}
