// usage: node supabase_mail_story.mjs BASE PUBLISHABLE_KEY
// An unmodified @supabase/supabase-js does everything that goes through a mailbox, on a server
// where addresses have to be confirmed. One JSON line for each step, {"step", "error"?}.
import { same, step } from "../clients/stories.mjs";
import { createClient, fine, password, refused, storage } from "../clients/supabase.mjs";

const [base, key] = process.argv.slice(2);
const app = "http://localhost:3000/welcome";
let people = 0;

const newAddress = () => `mailed-${process.pid}-${people++}@example.com`;
const client = (auth = {}) =>
  createClient(base, key, {
    auth: { autoRefreshToken: false, storage: storage(), storageKey: "session", ...auth },
  }).auth;
const claims = (token) => JSON.parse(Buffer.from(token.split(".")[1], "base64url"));

// What a person does with a mail: open the link, press the button, arrive somewhere.
const mail = async (to, kind) => {
  const { mails } = await (await fetch(`${base}/api/outbox`)).json();
  const found = mails.find((one) => one.to === to && one.kind === kind);
  if (!found) throw new Error(`no mail ${kind} to ${to}`);
  return found;
};
// The server of this test listens elsewhere than at the address it believes to have.
const here = (link) => base + new URL(link).pathname + new URL(link).search;
const press = async (link) => {
  const page = await (await fetch(here(link))).text();
  const fields = [...page.matchAll(/name="([a-z_]+)" value="([^"]*)"/g)].map(([, name, value]) => [
    name,
    value.replaceAll("&amp;", "&").replaceAll("&#x27;", "'").replaceAll("&quot;", '"'),
  ]);
  const answer = await fetch(`${base}/auth/v1/verify`, {
    method: "POST",
    redirect: "manual",
    headers: { origin: base },
    body: new URLSearchParams(fields),
  });
  same(answer.status, 303, "status of the form");
  return new URL(answer.headers.get("location"));
};
const fragment = (url) => Object.fromEntries(new URLSearchParams(url.hash.slice(1)));
const arrive = async (auth, url) => {
  const { access_token, refresh_token, ...rest } = fragment(url);
  if (!access_token) throw new Error(`arrived without tokens: ${url}`);
  return { ...fine(await auth.setSession({ access_token, refresh_token })), type: rest.type };
};
const confirmed = async () => {
  const auth = client();
  const email = newAddress();
  fine(await auth.signUp({ email, password, options: { emailRedirectTo: app } }));
  const { code } = await mail(email, "confirmation");
  return { auth, email, ...fine(await auth.verifyOtp({ email, token: code, type: "signup" })) };
};

await step("sign up and confirm by the link", async () => {
  const auth = client();
  const email = newAddress();
  const { user, session } = fine(
    await auth.signUp({ email, password, options: { emailRedirectTo: app, data: { a: 1 } } }),
  );
  same([session, user.email, user.identities.length], [null, email, 1], "sign-up");
  refused(await client().signInWithPassword({ email, password }), "email_not_confirmed", 400);
  const url = await press((await mail(email, "confirmation")).link);
  same(url.origin + url.pathname, app, "arrival");
  same((await arrive(auth, url)).user.id, user.id, "person");
  fine(await client().signInWithPassword({ email, password }));
});

await step("confirm by the code, sent again", async () => {
  const auth = client();
  const email = newAddress();
  fine(await auth.signUp({ email, password }));
  fine(await auth.resend({ type: "signup", email }));
  const { code } = await mail(email, "confirmation");
  refused(await auth.verifyOtp({ email, token: "nothing", type: "signup" }), "otp_expired", 403);
  const { session } = fine(await auth.verifyOtp({ email, token: code, type: "signup" }));
  same(claims(session.access_token).email, email, "address");
  refused(await auth.verifyOtp({ email, token: code, type: "signup" }), "otp_expired", 403);
});

await step("a taken address looks like a free one", async () => {
  const { email } = await confirmed();
  const { user, session } = fine(await client().signUp({ email, password: "another long one" }));
  same([session, user.email, user.identities.length], [null, email, 1], "sign-up");
});

await step("sign in by a link", async () => {
  const { email, user } = await confirmed();
  const auth = client();
  fine(await auth.signInWithOtp({ email, options: { emailRedirectTo: app } }));
  const url = await press((await mail(email, "magic_link")).link);
  const arrived = await arrive(auth, url);
  same([arrived.user.id, arrived.type], [user.id, "magiclink"], "arrival");
});

await step("sign in by a code, with no account before", async () => {
  const email = newAddress();
  const auth = client();
  fine(await auth.signInWithOtp({ email }));
  const { code } = await mail(email, "confirmation");
  const { user, session } = fine(await auth.verifyOtp({ email, token: code, type: "email" }));
  same([user.email, claims(session.access_token).amr[0].method], [email, "otp"], "session");
});

await step("sign in by the hash of a link", async () => {
  const { email, user } = await confirmed();
  const auth = client();
  fine(await auth.signInWithOtp({ email }));
  const token_hash = new URL((await mail(email, "magic_link")).link).searchParams.get("token");
  same(fine(await auth.verifyOtp({ token_hash, type: "magiclink" })).user.id, user.id, "person");
});

await step("nobody learns who has an account", async () => {
  const options = { shouldCreateUser: false };
  same((await client().signInWithOtp({ email: newAddress(), options })).error, null, "otp");
  same((await client().resetPasswordForEmail(newAddress())).error, null, "recovery");
});

await step("a lost password", async () => {
  const { email } = await confirmed();
  const auth = client();
  fine(await auth.resetPasswordForEmail(email, { redirectTo: app }));
  const url = await press((await mail(email, "recovery")).link);
  same((await arrive(auth, url)).type, "recovery", "type");
  fine(await auth.updateUser({ password: "a new long one" }));
  fine(await client().signInWithPassword({ email, password: "a new long one" }));
  refused(await client().signInWithPassword({ email, password }), "invalid_credentials", 400);
});

await step("another address", async () => {
  const { auth, email, user } = await confirmed();
  const other = newAddress();
  const asked = fine(await auth.updateUser({ email: other })).user;
  same([asked.email, asked.new_email], [email, other], "asked");
  const first = (await mail(email, "email_change_current")).code;
  const half = fine(await auth.verifyOtp({ email, token: first, type: "email_change" }));
  same([half.session, half.user.email], [null, email], "half");
  const url = await press((await mail(other, "email_change_new")).link);
  const arrived = await arrive(client(), url);
  same([arrived.user.id, arrived.user.email], [user.id, other], "arrival");
});

await step("a nonce before a new password", async () => {
  const { auth, email } = await confirmed();
  fine({ error: (await auth.reauthenticate()).error });
  const nonce = (await mail(email, "reauthentication")).code;
  fine(await auth.updateUser({ password: "a new long one", nonce }));
});

await step("PKCE: sign-up, link and recovery come back as a code", async () => {
  const browser = client({ flowType: "pkce" });
  const email = newAddress();
  const options = { emailRedirectTo: app };
  const back = async (kind) => {
    const url = await press((await mail(email, kind)).link);
    same(url.hash, "", "fragment");
    return fine(await browser.exchangeCodeForSession(url.searchParams.get("code"))).session;
  };
  fine(await browser.signUp({ email, password, options }));
  const { user } = await back("confirmation");
  fine(await browser.signInWithOtp({ email, options }));
  same((await back("magic_link")).user.id, user.id, "person");
  fine(await browser.resetPasswordForEmail(email, { redirectTo: app }));
  same(claims((await back("recovery")).access_token).amr[0].method, "recovery", "amr");
  fine(await browser.signInWithOtp({ email, options }));
  const stolen = (await press((await mail(email, "magic_link")).link)).searchParams.get("code");
  const thief = client({ flowType: "pkce" });
  fine(await thief.signInWithOtp({ email: newAddress() }));
  refused(await thief.exchangeCodeForSession(stolen), "bad_code_verifier", 400);
});

await step("a guest becomes permanent", async () => {
  const auth = client();
  const { user, session } = fine(await auth.signInAnonymously({ options: { data: { a: 1 } } }));
  same([user.is_anonymous, claims(session.access_token).is_anonymous], [true, true], "guest");
  const email = newAddress();
  fine(await auth.updateUser({ email }));
  const url = await press((await mail(email, "email_change_new")).link);
  const arrived = await arrive(auth, url);
  same([arrived.user.id, arrived.user.is_anonymous], [user.id, false], "permanent");
  fine(await auth.updateUser({ password }));
  same(fine(await client().signInWithPassword({ email, password })).user.id, user.id, "person");
});

await step("an old link says why it fails", async () => {
  const email = newAddress();
  fine(await client().signInWithOtp({ email, options: { emailRedirectTo: app } }));
  const { link } = await mail(email, "confirmation");
  await press(link);
  const answer = await fetch(here(link), { redirect: "manual" });
  const url = new URL(answer.headers.get("location"));
  same([answer.status, fragment(url).error_code], [303, "otp_expired"], "second press");
});
process.exit(0);
