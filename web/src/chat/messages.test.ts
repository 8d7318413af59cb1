import assert from "node:assert/strict";
import { test } from "node:test";
import { blocksOf, mergePage, shortfallOf, type ChatMessage } from "./messages.ts";

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

test("an answer that may not be whole says why, and a whole one nothing", () => {
  const said = (text: string, finishReason: string | null, status: "done" | "stopped" = "done") =>
    shortfallOf({ id: "m", role: "assistant", parts: text === "" ? [{ type: "reasoning", text: "Hm." }] : [{ type: "text", text }], metadata: { status, finishReason } });
  assert.equal(said("All of it.", "stop"), null);
  assert.equal(said("Written elsewhere.", null), null);
  assert.match(said("Half", "length") ?? "", /stopped at its length limit/);
  assert.match(said("", "length") ?? "", /before it said anything/);
  assert.match(said("Half", "content-filter") ?? "", /shortened or replaced/);
  assert.match(said("", "content-filter") ?? "", /held back/);
  for (const nothing of ["", " \n"]) assert.match(said(nothing, "stop") ?? "", /said nothing/);
  assert.equal(said("", null, "stopped"), null);
});
