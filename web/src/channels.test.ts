import assert from "node:assert/strict";
import { test } from "node:test";
import { openChannel } from "./channels.ts";

test("where the browser denies a channel the page goes on alone", (t) => {
  t.mock.method(globalThis, "BroadcastChannel", function denied() {
    throw new DOMException("The operation is insecure.", "SecurityError");
  } as never);
  const channel = openChannel("pages");
  const heard = () => assert.fail("nobody can be heard");
  channel.addEventListener("message", heard);
  channel.postMessage("anybody there?");
  channel.removeEventListener("message", heard);
  channel.close();
});
