import assert from "node:assert/strict";
import { test } from "node:test";
import { blocksOf, mergePage, type ChatMessage } from "./messages.ts";

function message(id: string, text = id): ChatMessage {
  return { id, role: "user", parts: [{ type: "text", text }] };
}

const ids = (messages: ChatMessage[]) => messages.map((one) => one.id).join("");

test("the newest page takes the place of what it overlaps, and the older messages stay", () => {
  const merged = mergePage(["a", "b", "c", "d"].map((id) => message(id)), ["c", "d", "e"].map((id) => message(id)), true);
  assert.equal(ids(merged.messages), "abcde");
  assert.equal(merged.keptOlder, true);
});

test("another branch shows none of the messages of the one before", () => {
  const merged = mergePage(["a", "b", "c"].map((id) => message(id)), ["x", "y"].map((id) => message(id)), true);
  assert.equal(ids(merged.messages), "xy");
  assert.equal(merged.keptOlder, false);
});

test("a page without older ones is the whole conversation", () => {
  const merged = mergePage(["z", "a", "b"].map((id) => message(id)), ["a", "b"].map((id) => message(id)), false);
  assert.equal(ids(merged.messages), "ab");
});

test("neighbouring parts of one kind are one block, empty ones none", () => {
  const blocks = blocksOf({
    id: "m",
    role: "assistant",
    parts: [
      { type: "step-start" },
      { type: "reasoning", text: "Hm." },
      { type: "text", text: "" },
      { type: "text", text: "One." },
      { type: "step-start" },
      { type: "text", text: "Two." },
    ],
  });
  assert.deepEqual(blocks, [
    { kind: "reasoning", text: "Hm." },
    { kind: "text", text: "One.\n\nTwo." },
  ]);
});
