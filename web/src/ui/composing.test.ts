import assert from "node:assert/strict";
import { test } from "node:test";
import { isComposing } from "./composing.ts";

test("a key that ends a word of an input method is none of the page's", () => {
  assert.equal(isComposing({ isComposing: true, keyCode: 13 }), true);
  assert.equal(isComposing({ isComposing: false, keyCode: 229 }), true);
  assert.equal(isComposing({ isComposing: false, keyCode: 13 }), false);
});
