import assert from "node:assert/strict";
import { test } from "node:test";
import { isForGood, pauseAfter, scaleOf, within } from "./figures.ts";

test("a scale has a round top that everything fits under", () => {
  for (const [largest, top] of [[0, 1], [1, 1], [3, 5], [7, 10], [10, 10], [11, 20], [480, 500], [0.03, 0.05]] as const) {
    assert.ok(Math.abs(scaleOf(largest) - top) < 1e-9, `${largest} → ${scaleOf(largest)}`);
  }
  assert.equal(scaleOf(Number.NaN), 1);
});

test("a share of answers began within the end of its bucket", () => {
  const bounds = [0.1, 0.5, 1];
  assert.equal(within([0, 0, 0, 0], bounds, 0.5), null);
  assert.equal(within([5, 5, 0, 0], bounds, 0.5), 0.1);
  assert.equal(within([5, 5, 0, 0], bounds, 0.95), 0.5);
  assert.equal(within([0, 0, 0, 1], bounds, 0.5), Infinity);
});

test("pauses double and end at a minute", () => {
  assert.deepEqual([0, 1, 2, 9].map((failures) => pauseAfter(failures, 5_000)), [5_000, 10_000, 20_000, 60_000]);
});

test("a suspension of a century is one for good", () => {
  assert.equal(isForGood(new Date(Date.now() + 86_400_000).toISOString()), false);
  assert.equal(isForGood(new Date(Date.now() + 99 * 366 * 86_400_000).toISOString()), true);
});
