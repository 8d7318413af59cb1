import assert from "node:assert/strict";
import { test } from "node:test";
import { after } from "./listed.ts";

function chat(id: string, updated_at: string) {
  return { id, title: null, created_at: updated_at, updated_at };
}

test("chats of one moment stay in the list, on whichever side of the page's end they are", () => {
  const shown = [chat("e", "2026-03-02"), chat("d", "2026-03-01"), chat("c", "2026-03-01"), chat("b", "2026-03-01"), chat("a", "2026-02-01")];
  const last = chat("c", "2026-03-01");
  assert.deepEqual(after(last, shown).map((one) => one.id), ["b", "a"]);
});
