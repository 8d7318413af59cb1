/** The address and the password of an account. */
import { useState, type FormEvent } from "react";
import { useAuth } from "../auth";
import { Link } from "../router";
import { CodeBox, described, PasswordBox, ProblemNotice, useProblem } from "../sign-in/gate";
import { Button, Notice } from "../ui/controls";
import { Told } from "../ui/told";
import { toast } from "../ui/toasts";
import { useWorkspace } from "../workspace";

export function EmailPanel() {
  const { client } = useAuth();
  const { user } = useWorkspace();
  const [email, setEmail] = useState("");
  const [pending, setPending] = useState(user.new_email ?? null);
  const [busy, setBusy] = useState(false);
  const { problem, waitS, fail, clear, invalid } = useProblem();
  const options = { emailRedirectTo: `${location.origin}/settings/account` };

  const submit = async (event: FormEvent) => {
    event.preventDefault();
    setBusy(true);
    clear();
    const { data, error } = await client.auth.updateUser({ email: email.trim() }, options);
    setBusy(false);
    if (error) return void fail(error);
    setEmail("");
    setPending(data.user.new_email ?? null);
    if (!data.user.new_email) toast("Your e-mail address is changed.");
  };
  const resend = async () => {
    clear();
    const { error } = await client.auth.resend({ type: "email_change", email: user.email ?? "", options });
    if (error) fail(error);
    else toast("Sent again.");
  };

  return (
    <section className="panel" aria-labelledby="email-address">
      <h2 id="email-address">E-mail</h2>
      <p>{user.email || "None yet"}</p>
      {pending ? (
        <Notice tone="info" actions={<Button onClick={() => void resend()}>Send again</Button>}>
          The change to <strong><Told text={pending} /></strong> waits: open the links that we sent to the new and to the present address.
        </Notice>
      ) : null}
      <form className="panel-form" aria-label="Change e-mail" onSubmit={(event) => void submit(event)}>
        <ProblemNotice problem={problem} waitS={waitS} />
        <label className="field">
          <span className="field-label">New e-mail</span>
          <input className="input" type="email" autoComplete="email" required value={email} onChange={(event) => setEmail(event.target.value)} {...described(invalid("email"))} />
        </label>
        <div>
          <Button type="submit" busy={busy} disabled={waitS > 0 || email.trim() === ""}>
            Change e-mail
          </Button>
        </div>
      </form>
    </section>
  );
}

export function PasswordPanel() {
  const { client } = useAuth();
  const [present, setPresent] = useState("");
  const [password, setPassword] = useState("");
  const [nonce, setNonce] = useState<string | null>(null);
  const [changed, setChanged] = useState(false);
  const [busy, setBusy] = useState(false);
  const { problem, waitS, fail, clear, invalid } = useProblem();

  const failed = async (error: unknown) => {
    fail(error);
    if ((error as { code?: string }).code !== "reauthentication_needed") return;
    const { error: unsent } = await client.auth.reauthenticate();
    if (unsent) fail(unsent);
    else setNonce("");
  };
  const submit = async (event: FormEvent) => {
    event.preventDefault();
    setBusy(true);
    clear();
    const { error } = await client.auth.updateUser({
      password,
      ...(present === "" ? {} : { current_password: present }),
      ...(nonce === null ? {} : { nonce: nonce.trim() }),
    });
    setBusy(false);
    if (error) return void failed(error);
    setPresent("");
    setPassword("");
    setNonce(null);
    setChanged(true);
    toast("Your password is changed. Your other devices are signed out.");
  };

  return (
    <section className="panel" aria-labelledby="password-title">
      <h2 id="password-title">Password</h2>
      <form className="panel-form" aria-label="Change password" onSubmit={(event) => void submit(event)}>
        <ProblemNotice problem={problem} waitS={waitS} />
        {changed ? (
          <Notice tone="info" actions={<Link href="/settings/keys">Look at your API keys</Link>}>
            Programs that have an API key of yours go on. Revoke the keys that you do not trust.
          </Notice>
        ) : null}
        <PasswordBox id="present-password" label="Present password" value={present} onChange={setPresent} fresh={false} optional help="Leave it empty if you have none." />
        <PasswordBox id="new-password" label="New password" value={password} onChange={setPassword} fresh invalid={invalid("password")} help="Your other devices will be signed out." />
        {nonce === null ? null : <CodeBox label="Code from the e-mail" value={nonce} onChange={setNonce} invalid={invalid("code")} />}
        <div>
          <Button type="submit" busy={busy} disabled={waitS > 0 || password === ""}>
            Change password
          </Button>
        </div>
      </form>
    </section>
  );
}
