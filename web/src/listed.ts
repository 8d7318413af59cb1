/** Which conversations stay in the list when its newest page is read again. Pure. */
import type { Conversation } from "./wire";

/** Those of *shown* that come after *last*, the end of a page, in the server's order: newest first, then by id. */
export function after(last: Conversation, shown: Conversation[]): Conversation[] {
  return shown.filter((one) => one.updated_at < last.updated_at || (one.updated_at === last.updated_at && one.id < last.id));
}
