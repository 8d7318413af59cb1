import assert from "node:assert/strict";
import { test } from "node:test";
import { dayLabel, groupByDay } from "./days.ts";

const NOW = new Date(2026, 10, 21, 12);

test("days have the names people use", () => {
  const label = (year: number, month: number, day: number) => dayLabel(new Date(year, month - 1, day, 23, 59), NOW, "en");
  assert.equal(label(2026, 11, 21), "Today");
  assert.equal(label(2026, 11, 20), "Yesterday");
  assert.equal(label(2026, 11, 15), "Previous 7 days");
  assert.equal(label(2026, 11, 14), "Previous 30 days");
  assert.equal(label(2026, 10, 1), "October 2026");
});

test("a clock that is ahead does not make tomorrow", () => {
  assert.equal(dayLabel(new Date(2026, 10, 22, 1), NOW, "en"), "Today");
});

test("conversations keep their order under their headings", () => {
  const item = (id: string, date: Date) => ({ id, title: id, created_at: "", updated_at: date.toISOString() });
  const groups = groupByDay(
    [item("a", new Date(2026, 10, 21, 9)), item("b", new Date(2026, 10, 21, 8)), item("c", new Date(2026, 10, 20, 8))],
    NOW,
    "en",
  );
  assert.deepEqual(
    groups.map((group) => [group.label, group.items.map((one) => one.id).join("")]),
    [
      ["Today", "ab"],
      ["Yesterday", "c"],
    ],
  );
});
