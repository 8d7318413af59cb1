// usage: node supabase_js_story.mjs BASE PUBLISHABLE_KEY
// An unmodified @supabase/supabase-js lives through days with a server: one JSON line for each
// step, {"step", "error"?}. Steps do not stop each other.
import { same, step } from "../clients/stories.mjs";
import { createClient, fine, password, refused, storage } from "../clients/supabase.mjs";

const [base, key] = process.argv.slice(2);
let people = 0;

const newAddress = () => `somebody-${process.pid}-${people++}@example.com`;
const client = (auth = {}) =>
  createClient(base, key, {
    auth: { autoRefreshToken: false, storage: storage(), storageKey: "session", ...auth },
  }).auth;
const claims = (token) => JSON.parse(Buffer.from(token.split(".")[1], "base64url"));
const signedUp = async (options) => {
  const auth = client(options);
  const email = newAddress();
  return { auth, email, ...fine(await auth.signUp({ email, password })) };
};
const refresh = (refresh_token) => client().refreshSession({ refresh_token });

await step("sign up", async () => {
  const { user, session, email } = await signedUp();
  same([user.email, user.is_anonymous, user.identities.length], [email, false, 1], "user");
  same(claims(session.access_token).sub, user.id, "sub");
});

await step("a taken address is refused", async () => {
  const { email } = await signedUp();
  refused(await client().signUp({ email: email.toUpperCase(), password }), "user_already_exists", 422);
});

await step("a weak password is refused with its reasons", async () => {
  const answer = await client().signUp({ email: newAddress(), password: "123" });
  same([answer.error.name, answer.error.reasons], ["AuthWeakPasswordError", ["length"]], "error");
});

await step("sign in", async () => {
  const { email, user } = await signedUp();
  same(fine(await client().signInWithPassword({ email, password })).user.id, user.id, "person");
  refused(await client().signInWithPassword({ email, password: "x" }), "invalid_credentials", 400);
  const nobody = { email: newAddress(), password };
  refused(await client().signInWithPassword(nobody), "invalid_credentials", 400);
});

await step("come back tomorrow with the same browser", async () => {
  const browser = storage();
  const { user } = await signedUp({ storage: browser });
  const { session } = fine(await client({ storage: browser }).getSession());
  same(session.user.id, user.id, "person");
});

await step("an expired session in the browser is refreshed by itself", async () => {
  const { session } = await signedUp();
  const browser = storage();
  browser.setItem("session", JSON.stringify({ ...session, expires_at: 1 }));
  const found = fine(await client({ storage: browser }).getSession()).session;
  same(found.user.id, session.user.id, "person");
  same(found.refresh_token === session.refresh_token, false, "same refresh token");
});

await step("a session that runs out soon is refreshed by itself", async () => {
  const { session } = await signedUp();
  const browser = storage();
  const soon = Math.floor(Date.now() / 1000) + 20;
  browser.setItem("session", JSON.stringify({ ...session, expires_at: soon }));
  const auth = client({ storage: browser, autoRefreshToken: true });
  await new Promise((resolve) =>
    auth.onAuthStateChange((event) => event === "TOKEN_REFRESHED" && resolve()),
  );
  await auth.stopAutoRefresh();
});

await step("the token is verified in the client", async () => {
  const { auth, user } = await signedUp();
  const { claims, header } = fine(await auth.getClaims());
  same([claims.sub, header.alg], [user.id, "ES256"], "claims");
});

await step("the server is asked who that is", async () => {
  const { auth, user } = await signedUp();
  same(fine(await auth.getUser()).user, user, "user");
});

await step("change oneself", async () => {
  const { auth, email } = await signedUp();
  fine(await auth.updateUser({ data: { a: 1, b: "x" } }));
  same(fine(await auth.updateUser({ data: { b: "y" } })).user.user_metadata, { a: 1, b: "y" }, "merge");
  const { session } = fine(await auth.refreshSession());
  same(claims(session.access_token).user_metadata, { a: 1, b: "y" }, "claim");
  refused(await auth.updateUser({ password }), "same_password", 422);
  fine(await auth.updateUser({ password: `${password}2`, email: `new-${email}` }));
  refused(await client().signInWithPassword({ email, password }), "invalid_credentials", 400);
  fine(await client().signInWithPassword({ email: `new-${email}`, password: `${password}2` }));
});

await step("many tabs refresh at once", async () => {
  const { session } = await signedUp();
  const answers = await Promise.all(Array.from({ length: 20 }, () => refresh(session.refresh_token)));
  const tokens = new Set(answers.map((one) => fine(one).session.refresh_token));
  same(tokens.size, 1, "successors");
  fine(await refresh([...tokens][0]));
});

await step("a lost answer is given again", async () => {
  const { session } = await signedUp();
  const first = fine(await refresh(session.refresh_token)).session.refresh_token;
  same(fine(await refresh(session.refresh_token)).session.refresh_token, first, "successor");
});

await step("a stolen token ends the session", async () => {
  const { session } = await signedUp();
  let last = session;
  for (let turn = 0; turn < 3; turn++) last = fine(await refresh(last.refresh_token)).session;
  refused(await refresh(session.refresh_token), "refresh_token_already_used", 400);
  refused(await refresh(last.refresh_token), "refresh_token_not_found", 400);
});

await step("a session is carried over", async () => {
  const { session, user } = await signedUp();
  same(fine(await client().setSession(session)).user.id, user.id, "person");
});

await step("sign out in three scopes", async () => {
  const { auth, email, session } = await signedUp();
  const other = client();
  fine(await other.signInWithPassword({ email, password }));
  const third = fine(await client().signInWithPassword({ email, password })).session;
  fine({ error: (await auth.signOut({ scope: "local" })).error });
  refused(await refresh(session.refresh_token), "refresh_token_not_found", 400);
  fine({ error: (await other.signOut({ scope: "others" })).error });
  refused(await refresh(third.refresh_token), "refresh_token_not_found", 400);
  const kept = fine(await other.refreshSession()).session;
  fine({ error: (await other.signOut()).error });
  refused(await refresh(kept.refresh_token), "refresh_token_not_found", 400);
});

await step("a session that ended elsewhere is noticed", async () => {
  const { auth, email } = await signedUp();
  const other = client();
  fine(await other.signInWithPassword({ email, password }));
  await other.signOut({ scope: "others" });
  same((await auth.getUser()).error?.name, "AuthSessionMissingError", "error");
  same(fine(await auth.getSession()).session, null, "session in the browser");
});

await step("listeners hear what happens", async () => {
  const { email } = await signedUp();
  const auth = client();
  const heard = [];
  await new Promise((resolve) =>
    auth.onAuthStateChange((event) => (heard.push(event), event === "INITIAL_SESSION" && resolve())),
  );
  fine(await auth.signInWithPassword({ email, password }));
  fine(await auth.refreshSession());
  fine(await auth.updateUser({ data: { a: 1 } }));
  await auth.signOut();
  const wanted = ["INITIAL_SESSION", "SIGNED_IN", "TOKEN_REFRESHED", "USER_UPDATED", "SIGNED_OUT"];
  same(heard, wanted, "events");
});

await step("what is not offered is refused in words it knows", async () => {
  refused(await client().signInAnonymously(), "anonymous_provider_disabled", 422);
  refused(await client().signInWithOtp({ phone: "+15550100" }), "phone_provider_disabled", 400);
  const guess = { email: newAddress(), token: "000000", type: "email" };
  refused(await client().verifyOtp(guess), "otp_expired", 403);
  refused(await client().signInWithIdToken({ provider: "google", token: "a.b.c" }), "provider_disabled", 400);
  const { auth } = await signedUp();
  same(fine(await auth.mfa.listFactors()).all, [], "factors");
});
process.exit(0);
