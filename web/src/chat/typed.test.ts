import assert from "node:assert/strict";
import { test } from "node:test";
import { begunWith, joined, pastesText } from "./typed.ts";

const STARTS = ["Explain: ", "What is wrong?\n\n```\n```"];

test("neither of two texts takes the place of the other", () => {
  assert.equal(joined("What was not sent", "what was typed since"), "What was not sent\n\nwhat was typed since");
  assert.equal(joined("What was not sent", " "), "What was not sent");
  assert.equal(joined("", "typed"), "typed");
});

test("a start comes ahead of what was typed, and takes the place of another start alone", () => {
  assert.equal(begunWith("Explain: ", "", STARTS), "Explain: ");
  assert.equal(begunWith("Explain: ", "a long thought", STARTS), "Explain: a long thought");
  assert.equal(begunWith("What is wrong?\n\n```\n```", "Explain: a long thought", STARTS), "What is wrong?\n\n```\n```\n\na long thought");
  assert.equal(begunWith("Explain: ", "What is wrong?\n\n```\n```\n\na long thought", STARTS), "Explain: a long thought");
  assert.equal(begunWith("Explain: ", "Explain: ", STARTS), "Explain: ");
});

test("text from a spreadsheet is text, though a picture of it comes along", () => {
  assert.equal(pastesText(["text/plain", "text/html", "text/rtf", "Files"]), true);
  assert.equal(pastesText(["text/html", "Files"]), false);
  assert.equal(pastesText(["text/plain", "Files"]), false);
  assert.equal(pastesText(["Files"]), false);
});
