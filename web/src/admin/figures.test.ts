import assert from "node:assert/strict";
import { test } from "node:test";
import { begunBetween, isForGood, pauseAfter, scaleOf, within, withSample, type Sample, type ServerFigures } from "./figures.ts";

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

test("what began between two samples is counted by how long it took, and nothing before the first", () => {
  const sample = (counts: number[]): Sample => ({ at: 0, counts, busy: 0, waiting: 0 });
  assert.deepEqual(begunBetween([sample([9, 9, 9, 9]), sample([10, 11, 12, 13]), sample([10, 11, 12, 13])], [0.5, 1, 5]), [
    { quick: 0, slow: 0, slower: 0 },
    { quick: 3, slow: 3, slower: 4 },
    { quick: 0, slow: 0, slower: 0 },
  ]);
});

test("samples do not grow for ever", () => {
  const figures: ServerFigures = { host: "h", process: 1, began_at: "", pool: { size: 4, idle: 1, most: 9, waiting: 2 }, open_streams: 0, requests: {}, first_piece: { bounds: [], counts: [1] } };
  let samples: Sample[] = [];
  for (let at = 0; at < 200; at += 1) samples = withSample(samples, figures, at);
  assert.equal(samples.length, 76);
  assert.deepEqual(samples.at(-1), { at: 199, counts: [1], busy: 3, waiting: 2 });
});
