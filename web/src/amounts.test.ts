import assert from "node:assert/strict";
import test from "node:test";
import { amountOf, nearest, resetOf, shareOf } from "./amounts.ts";
import type { Budget } from "./wire.ts";

function budget(name: string, limit: string, used: string | null): Budget {
  return { name, unit: name.startsWith("tokens") ? "tokens" : "usd", limit, used, left: "0", resets_at: null };
}

test("a budget of each answer has no share, and one of nothing is used up", () => {
  assert.equal(shareOf(budget("tokens-per-run", "10", null)), null);
  assert.equal(shareOf(budget("tokens-per-day", "0", "0")), 1);
  assert.equal(shareOf(budget("tokens-per-day", "10", "25")), 1);
});

test("the budget that is nearest to its end is told, and none below four fifths", () => {
  const calm = budget("tokens-per-day", "100", "79");
  const near = budget("tokens-per-month", "100", "80");
  const over = budget("cost-per-day", "1.00", "0.99");
  assert.equal(nearest([calm]), null);
  assert.equal(nearest([calm, near])?.name, "tokens-per-month");
  assert.equal(nearest([near, over, calm])?.name, "cost-per-day");
});

test("money keeps the digits that say something, tokens have none after the point", () => {
  assert.equal(amountOf("0.00123", "usd", "en-US"), "$0.0012");
  assert.equal(amountOf("2.5", "usd", "en-US"), "$2.50");
  assert.equal(amountOf("12345", "tokens", "en-US"), "12,345");
});

test("what begins anew later than tomorrow is told with its day", () => {
  const later = new Date(Date.now() + 5 * 86_400_000);
  assert.match(resetOf(later.toISOString(), "en-GB"), /^on \d/);
  assert.match(resetOf(new Date(Date.now() + 60_000).toISOString(), "en-GB"), /^at \d/);
});
