// An unmodified supabase-js signs in with a provider, links another one and unlinks it.
//
//   node provider_story.mjs URL KEY ID_TOKEN NONCE
//
// Prints one JSON line for each step: its name, and what went wrong if anything did. The browser
// is played here: it follows redirects and keeps cookies.
import assert from "node:assert/strict";
import { createClient, storage } from "../clients/supabase.mjs";

const [url, key, idToken, nonce] = process.argv.slice(2);
const app = "http://127.0.0.1:9/after";
const jar = new Map();

async function browse(address, referer) {
  let headers = referer ? { referer } : {};
  for (let hops = 0; hops < 10; hops++) {
    const cookie = [...jar].map(([name, value]) => `${name}=${value}`).join("; ");
    const answer = await fetch(address, { redirect: "manual", headers: { cookie, ...headers } });
    headers = {};
    for (const line of answer.headers.getSetCookie()) {
      const [, name, value] = /^([^=]+)=([^;]*)/.exec(line);
      jar.set(name, value);
    }
    const location = answer.headers.get("location");
    if (!location) throw new Error(`${answer.status} ${await answer.text()}`);
    address = new URL(location, address);
    if (address.href.startsWith(app)) return address;
  }
  throw new Error("too many redirects");
}

const client = (flowType) =>
  createClient(url, key, { auth: { flowType, storage: storage(), autoRefreshToken: false } }).auth;
const good = ({ data, error }) => {
  assert.equal(error, null);
  return data;
};
const options = { redirectTo: app, skipBrowserRedirect: true };
const auth = client("pkce");
let me;

const steps = {
  "sign in by redirect, with PKCE": async () => {
    const { url: there } = good(await auth.signInWithOAuth({ provider: "acme", options }));
    const back = await browse(there);
    const { session, user } = good(await auth.exchangeCodeForSession(back.searchParams.get("code")));
    assert.equal(session.provider_token, "their-access-token");
    assert.equal(user.app_metadata.provider, "acme");
    me = user.id;
  },
  "sign in by redirect, without PKCE": async () => {
    const { url: there } = good(await client("implicit").signInWithOAuth({ provider: "acme", options }));
    const said = new URLSearchParams((await browse(there)).hash.slice(1));
    const { user } = good(await client("implicit").setSession({
      access_token: said.get("access_token"),
      refresh_token: said.get("refresh_token"),
    }));
    assert.equal(user.id, me);
    assert.equal(said.get("provider_refresh_token"), "their-refresh-token");
  },
  "the wrong verifier opens nothing": async () => {
    const { url: there } = good(await auth.signInWithOAuth({ provider: "acme", options }));
    const code = (await browse(there)).searchParams.get("code");
    const stranger = client("pkce");
    good(await stranger.signInWithOAuth({ provider: "acme", options }));
    const { error } = await stranger.exchangeCodeForSession(code);
    assert.equal(error.code, "bad_code_verifier");
  },
  "link another provider": async () => {
    const { url: there } = good(await auth.linkIdentity({ provider: "other", options }));
    const back = await browse(there, "http://127.0.0.1:9/settings");
    const { user } = good(await auth.exchangeCodeForSession(back.searchParams.get("code")));
    assert.equal(user.id, me);
    const { identities } = good(await auth.getUserIdentities());
    assert.deepEqual(identities.map((one) => one.provider).sort(), ["acme", "other"]);
  },
  "what is linked is not linked again": async () => {
    const { url: there } = good(await auth.linkIdentity({ provider: "other", options }));
    const back = await browse(there, "http://127.0.0.1:9/settings");
    assert.equal(back.searchParams.get("error_code"), "identity_already_exists");
  },
  "unlink one, and not the last": async () => {
    const { identities } = good(await auth.getUserIdentities());
    good(await auth.unlinkIdentity(identities.find((one) => one.provider === "other")));
    const { identities: left } = good(await auth.getUserIdentities());
    assert.deepEqual(left.map((one) => one.provider), ["acme"]);
    const { error } = await auth.unlinkIdentity(left[0]);
    assert.equal(error.code, "single_identity_not_deletable");
  },
  "sign in with an ID token": async () => {
    const { user } = good(await client("pkce").signInWithIdToken({ provider: "acme", token: idToken, nonce }));
    assert.equal(user.id, me);
    const { error } = await client("pkce").signInWithIdToken({ provider: "acme", token: idToken, nonce });
    assert.equal(error.status, 400);
  },
};

for (const [step, take] of Object.entries(steps)) {
  try {
    await take();
    console.log(JSON.stringify({ step }));
  } catch (error) {
    console.log(JSON.stringify({ step, error: String(error.stack ?? error) }));
  }
}
