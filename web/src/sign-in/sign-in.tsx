/** Sign in, or make an account. */
import { useEffect, useRef, useState, type FormEvent } from "react";
import { useAuth, type SignedOutNotice } from "../auth";
import { Link, type SignInMode } from "../router";
import { Button, Notice } from "../ui/controls";
import { isTouch } from "../ui/hooks";
import { EmailBox, Gate, PasswordBox, ProblemNotice, useProblem } from "./gate";
import { MailForm } from "./mail-form";
import { Mailed } from "./mailed";
import { PasskeyButton } from "./passkey-button";
import { ProviderButtons, useReturnProblem } from "./provider-buttons";

const NOTICES: Partial<Record<SignedOutNotice, string>> = {
  again: "Sign in again to go on.",
  expired: "Your session has ended. Sign in again to go on: what you typed is kept.",
  "too-late": "The second factor took too long, so you were signed out. Sign in again to go on.",
  "ended-elsewhere": "You were signed out here, from another device or by whoever runs this server. Sign in again to go on: what you typed is kept.",
  "not-revoked": "You are signed out in this browser, but the server could not be told. The session ends there by itself.",
};

const TITLES: Record<SignInMode, [title: string, lead: string]> = {
  password: ["Welcome", "Sign in to your chats, on any device."],
  "sign-up": ["Create your account", "Your chats are kept for you alone."],
  mail: ["Sign in by e-mail", "We send you a link and a code. You need no password."],
  forgot: ["Forgot your password?", "We send you a link and a code to choose a new one."],
};

export function SignInPage({ mode: wanted }: { mode: SignInMode }) {
  const { config, state } = useAuth();
  const mode = config.mail || wanted === "sign-up" ? wanted : "password";
  const notice = state.status === "signed-out" && state.notice ? NOTICES[state.notice] : undefined;
  const returnProblem = useReturnProblem();
  const [title, lead] = TITLES[mode];

  return (
    <Gate key={mode} title={title} lead={lead}>
      {notice && mode !== "sign-up" ? <Notice tone="info">{notice}</Notice> : null}
      {returnProblem ? <Notice tone="error">{returnProblem}</Notice> : null}
      {mode === "sign-up" && !config.signup ? <Notice tone="info">New accounts are switched off on this server.</Notice> : <Ways mode={mode} />}
      <p className="gate-other">
        {mode === "sign-up" ? "Already have an account? " : mode === "password" ? (config.signup ? "New here? " : null) : null}
        {mode !== "password" ? <Link href="/sign-in">{mode === "sign-up" ? "Sign in" : "Sign in with your password"}</Link> : config.signup ? <Link href="/sign-in?mode=sign-up">Create an account</Link> : null}
      </p>
    </Gate>
  );
}

function Ways({ mode }: { mode: SignInMode }) {
  const { config } = useAuth();
  if (mode === "mail" || mode === "forgot") return <MailForm forgot={mode === "forgot"} />;
  return (
    <>
      <PasswordForm signUp={mode === "sign-up"} />
      {mode === "password" && config.mail ? (
        <div className="gate-links">
          <Link href="/sign-in?mode=forgot">Forgot your password?</Link>
          <Link href="/sign-in?mode=mail">Sign in by e-mail</Link>
        </div>
      ) : null}
      <ProviderButtons>{mode === "password" ? <PasskeyButton /> : null}</ProviderButtons>
    </>
  );
}

function PasswordForm({ signUp }: { signUp: boolean }) {
  const { client } = useAuth();
  const [email, setEmail] = useState("");
  const [password, setPassword] = useState("");
  const [busy, setBusy] = useState(false);
  const [mailed, setMailed] = useState(false);
  const [unconfirmed, setUnconfirmed] = useState(false);
  const { problem, waitS, fail, clear, invalid } = useProblem();
  const emailBox = useRef<HTMLInputElement>(null);
  const passwordBox = useRef<HTMLInputElement>(null);
  const address = email.trim();
  const options = { emailRedirectTo: location.origin };

  useEffect(() => {
    if (!isTouch()) emailBox.current?.focus();
  }, []);

  const failed = (error: unknown) => {
    setUnconfirmed((error as { code?: string }).code === "email_not_confirmed");
    (fail(error).field === "email" ? emailBox : passwordBox).current?.focus();
  };

  const submit = async (event: FormEvent) => {
    event.preventDefault();
    setBusy(true);
    setUnconfirmed(false);
    clear();
    const { data, error } = signUp
      ? await client.auth.signUp({ email: address, password, options })
      : await client.auth.signInWithPassword({ email: address, password });
    setBusy(false);
    if (error) failed(error);
    else if (!data.session) setMailed(true);
  };

  const resend = () => client.auth.resend({ type: "signup", email: address, options });
  const confirm = async () => {
    const { error } = await resend();
    if (error) failed(error);
    else setMailed(true);
  };

  if (mailed) return <Mailed email={address} type="signup" resend={resend} back={() => setMailed(false)} />;
  return (
    <form className="gate-form" onSubmit={(event) => void submit(event)}>
      <ProblemNotice problem={problem} waitS={waitS} />
      {unconfirmed ? <Button onClick={() => void confirm()}>Send the e-mail again</Button> : null}
      <EmailBox ref={emailBox} value={email} onChange={setEmail} invalid={invalid("email")} />
      <PasswordBox
        ref={passwordBox}
        id="password"
        label="Password"
        value={password}
        onChange={setPassword}
        fresh={signUp}
        invalid={invalid("password")}
        {...(signUp ? { help: "Long beats complicated: a few words you remember are fine." } : {})}
      />
      <Button tone="primary" type="submit" className="button-wide" busy={busy} disabled={waitS > 0 || address === "" || password === ""}>
        {waitS > 0 ? `Wait ${waitS} s` : signUp ? "Create account" : "Sign in"}
      </Button>
    </form>
  );
}
