/**
 * The caller's conversations, newest first, as the sidebar shows them.
 *
 * Changes show at once and are taken back when the server refuses them. A page that arrives late
 * never overwrites the answer to a newer question (`#generation`).
 */
import type { Api } from "./api";
import { tellChanged } from "./elsewhere";
import { after } from "./listed";
import { Store } from "./stores";
import type { Conversation, ConversationPage } from "./wire";

const PAGE = 30;

interface ConversationsState {
  items: Conversation[];
  cursor: string | null;
  query: string;
  status: "loading" | "ready" | "error";
  error: unknown;
  loadingMore: boolean;
}

export class Conversations extends Store<ConversationsState> {
  readonly #api: Api;
  readonly #removed = new Set<string>();
  #generation = 0;

  constructor(api: Api) {
    super({ items: [], cursor: null, query: "", status: "loading", error: null, loadingMore: false });
    this.#api = api;
  }

  find(id: string): Conversation | undefined {
    return this.value.items.find((item) => item.id === id);
  }

  search(query: string): Promise<void> {
    this.#patch({ query, status: "loading" });
    return this.#firstPage(false);
  }

  /** Read the newest page again, keeping the older ones that were loaded before. */
  refresh(): Promise<void> {
    return this.#firstPage(this.value.status === "ready");
  }

  async loadMore(): Promise<void> {
    const { cursor, loadingMore, query } = this.value;
    if (cursor === null || loadingMore) return;
    const generation = this.#generation;
    this.#patch({ loadingMore: true });
    try {
      const page = await this.#page(query, cursor);
      if (generation !== this.#generation) return;
      const known = new Set(this.value.items.map((item) => item.id));
      const more = this.#visible(page).filter((item) => !known.has(item.id));
      this.#patch({ items: [...this.value.items, ...more], cursor: page.next_cursor });
    } finally {
      this.#patch({ loadingMore: false });
    }
  }

  /** Show a conversation that was just written to at the top, before the server lists it. */
  touch(id: string, title: string | null): void {
    const now = new Date().toISOString();
    const known = this.find(id);
    const item: Conversation = known ? { ...known, updated_at: now } : { id, title, created_at: now, updated_at: now };
    if (!known && this.value.query !== "") return;
    this.#patch({ items: [item, ...this.value.items.filter((other) => other.id !== id)] });
  }

  /** Copy a conversation up to a message into a new one; returns its id. */
  async fork(id: string, messageId: string): Promise<string> {
    const made = await this.#api.json<Conversation>("POST", `/api/v1/chat/${id}/fork`, { message_id: messageId });
    tellChanged(made.id);
    if (this.value.query === "") this.#patch({ items: [made, ...this.value.items] });
    return made.id;
  }

  async rename(id: string, title: string): Promise<void> {
    const before = this.find(id)?.title ?? null;
    this.#retitle(id, title);
    try {
      const changed = await this.#api.json<Conversation>("PATCH", `/api/v1/chat/${id}`, { title });
      this.#retitle(id, changed.title);
      tellChanged(id);
    } catch (error) {
      this.#retitle(id, before);
      throw error;
    }
  }

  /** Remove *id*; what comes back puts it where it was again. */
  async remove(id: string): Promise<() => Promise<void>> {
    const { items } = this.value;
    const index = items.findIndex((item) => item.id === id);
    const item = items[index];
    this.#removed.add(id);
    this.#patch({ items: items.filter((other) => other.id !== id) });
    const putBack = () => {
      this.#removed.delete(id);
      if (item && !this.find(id)) this.#patch({ items: this.value.items.toSpliced(index, 0, item) });
    };
    try {
      await this.#api.json("DELETE", `/api/v1/chat/${id}`);
      tellChanged(id);
    } catch (error) {
      putBack();
      throw error;
    }
    return async () => {
      await this.#api.json("POST", `/api/v1/chat/${id}/restore`);
      tellChanged(id);
      putBack();
      await this.refresh();
    };
  }

  async #firstPage(keepOlder: boolean): Promise<void> {
    const generation = ++this.#generation;
    const { query } = this.value;
    try {
      const page = await this.#page(query, null);
      if (generation !== this.#generation) return;
      this.#accept(page, keepOlder);
    } catch (error) {
      if (generation !== this.#generation) return;
      if (keepOlder) throw error;
      this.#patch({ status: "error", error, loadingMore: false });
    }
  }

  #accept(page: ConversationPage, keepOlder: boolean): void {
    const fresh = this.#visible(page);
    const last = page.conversations.at(-1);
    const ids = new Set(fresh.map((item) => item.id));
    const older =
      keepOlder && last && page.next_cursor !== null
        ? after(last, this.value.items).filter((item) => !ids.has(item.id))
        : [];
    this.#patch({
      items: [...fresh, ...older],
      cursor: older.length > 0 ? this.value.cursor : page.next_cursor,
      status: "ready",
      error: null,
      loadingMore: false,
    });
  }

  #page(query: string, cursor: string | null): Promise<ConversationPage> {
    const parameters = new URLSearchParams({ limit: String(PAGE) });
    if (query !== "") parameters.set("q", query);
    if (cursor !== null) parameters.set("cursor", cursor);
    return this.#api.json<ConversationPage>("GET", `/api/v1/chat?${parameters}`);
  }

  #visible(page: ConversationPage): Conversation[] {
    return page.conversations.filter((item) => !this.#removed.has(item.id));
  }

  #retitle(id: string, title: string | null): void {
    this.#patch({ items: this.value.items.map((item) => (item.id === id ? { ...item, title } : item)) });
  }

  #patch(change: Partial<ConversationsState>): void {
    this.set({ ...this.value, ...change });
  }
}
