import assert from "node:assert/strict";
import { test } from "node:test";
import { splitBlocks } from "./blocks.ts";

test("joined again, the pieces are the text", () => {
  const text = "# Title\n\nSome words.\n\n- one\n\n- two\n\n```js\na\n\nb\n```\n\nEnd.\n";
  assert.equal(splitBlocks(text).join("\n"), text);
});

test("paragraphs are pieces", () => {
  assert.deepEqual(splitBlocks("one\n\ntwo\n\nthree"), ["one\n", "two\n", "three"]);
});

test("a fence is never cut, not even one with another fence in it", () => {
  assert.equal(splitBlocks("```py\na\n\nb\n```").length, 1);
  assert.equal(splitBlocks("````md\n```py\n\nx\n```\n\ny\n````").length, 1);
  assert.equal(splitBlocks("~~~\na\n\n```\n\nb\n~~~").length, 1);
});

test("a fence that is still being written is one piece", () => {
  assert.deepEqual(splitBlocks("before\n\n```py\na\n\nb"), ["before\n", "```py\na\n\nb"]);
});

test("the items of a loose list stay together, with what belongs to them", () => {
  assert.equal(splitBlocks("1. one\n\n   more of one\n\n2. two\n\n3. three").length, 1);
  assert.equal(splitBlocks("- one\n\n- two\n\nafter").length, 2);
});

test("text with definitions is left whole, because they work at a distance", () => {
  assert.equal(splitBlocks("See [it][1].\n\nMore.\n\n[1]: https://example.com").length, 1);
  assert.equal(splitBlocks("A note[^1].\n\nMore.\n\n[^1]: The note.").length, 1);
});
