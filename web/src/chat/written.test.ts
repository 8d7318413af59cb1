import assert from "node:assert/strict";
import { test } from "node:test";
import { written } from "./written.ts";

test("what can be seen is shown as it is", () => {
  for (const text of ["Zoë 王 😀 שלום", "one\n\ttwo", ""]) assert.equal(written(text), text);
  assert.equal(written({ to: "a", n: [1] }), '{\n  "to": "a",\n  "n": [\n    1\n  ]\n}');
  assert.equal(written(undefined), "");
});

test("what turns text round, or hides in it, is shown by its number", () => {
  assert.equal(written("\u202Emoc.live"), "\\u{202e}moc.live");
  assert.equal(written({ to: "a\u2066b\u2069" }), '{\n  "to": "a\\u{2066}b\\u{2069}"\n}');
  assert.equal(written("zero\u200Bwidth\u00AD\uFEFF"), "zero\\u{200b}width\\u{ad}\\u{feff}");
  assert.equal(written("tag \u{E0061}"), "tag \\u{e0061}");
  assert.equal(written("line\u2028end \u0007\u009b\r"), "line\\u{2028}end \\u{7}\\u{9b}\\u{d}");
});
