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

test("each piece that could refer to a link has its definition", () => {
  const pieces = splitBlocks('See [it][1].\n\nMore.\n\n[1]: https://example.com "The page"\n\nAnd [it][1].');
  assert.equal(pieces.length, 4);
  assert.ok(pieces[0]?.endsWith('\n\n[1]: https://example.com "The page"'));
  assert.equal(pieces[1], "More.\n");
  assert.ok(pieces[3]?.endsWith('\n\n[1]: https://example.com "The page"'));
});

test("a definition that goes on in the next line leaves the text whole", () => {
  assert.equal(splitBlocks("See [it][1].\n\nMore.\n\n[1]:\nhttps://example.com").length, 1);
});

test("a definition is not put into a fence that is still being written", () => {
  const pieces = splitBlocks("[1]: https://example.com\n\nWords.\n\n```js\na[0]");
  assert.equal(pieces.at(-1), "```js\na[0]");
});

test("what only looks like a definition within a paragraph is none", () => {
  assert.deepEqual(splitBlocks("a list:\n[x]: y\n\nand [x]"), ["a list:\n[x]: y\n", "and [x]"]);
});

test("from the first footnote on the text is left whole, because its notes stand at the end", () => {
  assert.deepEqual(splitBlocks("Before.\n\nA note[^1].\n\nMore.\n\n[^1]: The note."), ["Before.\n", "A note[^1].\n\nMore.\n\n[^1]: The note."]);
});

test("what looks like a definition within a fence is code", () => {
  assert.equal(splitBlocks("before\n\n```toml\n[a]: b\n\n[c]: d\n```\n\nafter").length, 3);
});
