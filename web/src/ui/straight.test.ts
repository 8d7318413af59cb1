import assert from "node:assert/strict";
import { test } from "node:test";
import { straight } from "./straight.ts";

test("what turns neighbours round is left out", () => {
  assert.equal(straight("invoice_\u202exslx.exe"), "invoice_xslx.exe");
  assert.equal(straight("\u2066a\u2069\u200f\u061c \u202ab\u202c"), "a b");
});

test("letters of any script, and what joins them, stay", () => {
  for (const name of ["דנה", "می‌خواهم", "👩‍👧", "Zoë O’Neil"]) assert.equal(straight(name), name);
});
