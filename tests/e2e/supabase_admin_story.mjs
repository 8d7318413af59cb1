// usage: node supabase_admin_story.mjs BASE PUBLISHABLE_KEY SECRET_KEY
// An unmodified @supabase/supabase-js with the secret key administers people who use another one:
// one JSON line for each step, {"step", "error"?}. Steps build on each other.
import { same, step } from "../clients/stories.mjs";
import { createClient, fine, password, refused } from "../clients/supabase.mjs";

const [base, publishable, secret] = process.argv.slice(2);
const email = `administered-${process.pid}@example.com`;
const options = { auth: { autoRefreshToken: false, persistSession: false } };
const person = () => createClient(base, publishable, options).auth;
const { admin } = createClient(base, secret, options).auth;

let user;
const auth = person();
await step("create", async () => {
  const app_metadata = { tier: "gold" };
  ({ user } = fine(
    await admin.createUser({ email, password, email_confirm: true, app_metadata }),
  ));
  same(user.app_metadata.tier, "gold", "tier");
  refused(await admin.createUser({ email, password }), "email_exists", 422);
});
await step("the person signs in", async () => {
  const { session } = fine(await auth.signInWithPassword({ email, password }));
  same(session.user.id, user.id, "id");
});
await step("list", async () => {
  const listed = fine(await admin.listUsers({ page: 1, perPage: 1 }));
  same(listed.users.length, 1, "users on a page");
  same(listed.total >= 1, true, "total");
  same(fine(await admin.listUsers()).users.some((one) => one.id === user.id), true, "listed");
});
await step("get", async () => {
  same(fine(await admin.getUserById(user.id)).user.email, email, "address");
});
await step("update", async () => {
  const changed = fine(
    await admin.updateUserById(user.id, { user_metadata: { a: 1 }, app_metadata: { tier: null } }),
  );
  same(changed.user.user_metadata, { a: 1 }, "metadata");
  same(changed.user.app_metadata.tier, undefined, "tier");
});
await step("ban", async () => {
  fine(await admin.updateUserById(user.id, { ban_duration: "24h" }));
  refused(await auth.getUser(), "user_banned", 400);
  refused(await person().signInWithPassword({ email, password }), "user_banned", 400);
  fine(await admin.updateUserById(user.id, { ban_duration: "none" }));
  fine(await person().signInWithPassword({ email, password }));
});
await step("sign somebody out", async () => {
  const { session } = fine(await auth.signInWithPassword({ email, password }));
  const { error } = await admin.signOut(session.access_token, "global");
  same(error, null, "error");
  refused(await person().refreshSession(session), "refresh_token_not_found", 400);
});
await step("delete", async () => {
  fine(await admin.deleteUser(user.id, true));
  same(typeof fine(await admin.getUserById(user.id)).user.deleted_at, "string", "deleted_at");
  fine(await admin.deleteUser(user.id));
  refused(await admin.getUserById(user.id), "user_not_found", 404);
});
await step("invite", async () => {
  const invited = `invited-${process.pid}@example.com`;
  const { user: guest } = fine(await admin.inviteUserByEmail(invited, { data: { team: "blue" } }));
  same([guest.email, guest.user_metadata], [invited, { team: "blue" }], "guest");
});
await step("links to hand on", async () => {
  const email = `linked-${process.pid}@example.com`;
  const { properties, user: linked } = fine(
    await admin.generateLink({ type: "signup", email, password }),
  );
  const { hashed_token: token_hash, verification_type: type } = properties;
  const { session } = fine(await person().verifyOtp({ token_hash, type }));
  same(session.user.id, linked.id, "id");
  const again = fine(await admin.generateLink({ type: "magiclink", email })).properties;
  fine(await person().verifyOtp({ email, token: again.email_otp, type: "email" }));
});
await step("the publishable key administers nothing", async () => {
  refused(await person().admin.listUsers(), "no_authorization", 401);
});
