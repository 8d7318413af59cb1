import assert from "node:assert/strict";
import { test } from "node:test";
import { byThisClock, inOurTime } from "./clock.ts";

const NOW = 1_800_000_000_000;

test("a token ends by the clock here, however wrong that is", () => {
  const told = { access_token: "a", expires_in: 3600, expires_at: 1_799_990_000 };
  assert.deepEqual(byThisClock(told, NOW), { access_token: "a", expires_in: 3600, expires_at: 1_800_003_600 });
});

test("what is no session stays as it is", () => {
  for (const told of [null, [], { id: "somebody" }, { expires_at: 5 }, "text"]) assert.equal(byThisClock(told, NOW), told);
});

test("only sessions that were given are told in our time", async () => {
  const given = await inOurTime(Response.json({ expires_in: 3600, expires_at: 1 }, { headers: { "x-kept": "yes" } }));
  assert.ok(((await given.json()) as { expires_at: number }).expires_at > Date.now() / 1000 + 3500);
  assert.equal(given.headers.get("x-kept"), "yes");
  const refused = Response.json({ expires_in: 3600, expires_at: 1 }, { status: 400 });
  assert.equal(await inOurTime(refused), refused);
});
