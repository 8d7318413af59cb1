/** Sign in, or make an account. */
import { useEffect, useRef, useState, type FormEvent } from "react";
import { useAuth, type SignedOutNotice } from "./auth";
import { authProblem, type AuthProblem } from "./auth-errors";
import { ProviderButtons, useReturnProblem } from "./provider-buttons";
import { Link } from "./router";
import { Button, IconButton, Notice } from "./ui/controls";
import { Mark } from "./ui/icons";
import { isTouch, useSecondsUntil, useTitle } from "./ui/hooks";

const NOTICES: Partial<Record<SignedOutNotice, string>> = {
  expired: "Your session has ended. Sign in again to go on: what you typed is kept.",
  "ended-elsewhere": "You were signed out here, from another device or by whoever runs this server. Sign in again to go on: what you typed is kept.",
  "not-revoked": "You are signed out in this browser, but the server could not be told. The session ends there by itself.",
};

export function SignInPage({ signUp }: { signUp: boolean }) {
  const { config, state } = useAuth();
  const notice = state.status === "signed-out" && state.notice ? NOTICES[state.notice] : undefined;
  const allowed = config.signup || !signUp;
  const returnProblem = useReturnProblem();
  useTitle(signUp ? "Create your account" : "Sign in");

  return (
    <div className="gate">
      <main className="gate-card" id="main">
        <div className="gate-brand">
          <Mark size={40} />
          <span>{config.name}</span>
        </div>
        <h1>{signUp ? "Create your account" : "Welcome back"}</h1>
        <p className="quiet">{signUp ? "Your chats are kept for you alone." : "Sign in to go on with your chats."}</p>
        {notice && !signUp ? <Notice tone="info">{notice}</Notice> : null}
        {returnProblem ? <Notice tone="error">{returnProblem}</Notice> : null}
        {allowed ? <Form key={String(signUp)} signUp={signUp} /> : <Notice tone="info">New accounts are switched off on this server.</Notice>}
        <ProviderButtons />
        <p className="gate-other">
          {signUp ? "Already have an account? " : config.signup ? "New here? " : null}
          {signUp ? <Link href="/sign-in">Sign in</Link> : config.signup ? <Link href="/sign-in?mode=sign-up">Create an account</Link> : null}
        </p>
      </main>
    </div>
  );
}

function Form({ signUp }: { signUp: boolean }) {
  const { client, lastRetryAfterS } = useAuth();
  const [email, setEmail] = useState("");
  const [password, setPassword] = useState("");
  const [visible, setVisible] = useState(false);
  const [busy, setBusy] = useState(false);
  const [problem, setProblem] = useState<AuthProblem | null>(null);
  const [until, setUntil] = useState<number | null>(null);
  const [mailed, setMailed] = useState(false);
  const emailBox = useRef<HTMLInputElement>(null);
  const passwordBox = useRef<HTMLInputElement>(null);
  const waitS = useSecondsUntil(until);

  useEffect(() => {
    if (!isTouch()) emailBox.current?.focus();
  }, []);

  const fail = (error: unknown) => {
    const found = authProblem(error, lastRetryAfterS());
    setProblem(found);
    setUntil(found.retryAfterS === null ? null : Date.now() + found.retryAfterS * 1000);
    (found.field === "email" ? emailBox : passwordBox).current?.focus();
  };

  const submit = async (event: FormEvent) => {
    event.preventDefault();
    setBusy(true);
    setProblem(null);
    const credentials = { email: email.trim(), password };
    const { data, error } = signUp ? await client.auth.signUp(credentials) : await client.auth.signInWithPassword(credentials);
    setBusy(false);
    if (error) fail(error);
    else if (!data.session) setMailed(true);
  };

  if (mailed) {
    return (
      <Notice tone="info">
        We sent a link to <strong>{email.trim()}</strong>. Open it to confirm your address, then sign in.
      </Notice>
    );
  }
  const about = (field: "email" | "password") => (problem?.field === field ? { "aria-invalid": true, "aria-describedby": "problem" } : {});
  return (
    <form className="gate-form" onSubmit={(event) => void submit(event)}>
      {problem ? (
        <div id="problem">
          <Notice
            tone="error"
            actions={problem.suggest ? <Link href={problem.suggest === "sign-in" ? "/sign-in" : "/sign-in?mode=sign-up"}>{problem.suggest === "sign-in" ? "Sign in instead" : "Create an account"}</Link> : null}
          >
            {problem.text}
            {waitS > 0 ? ` Try again in ${waitS} s.` : ""}
          </Notice>
        </div>
      ) : null}
      <label className="field">
        <span className="field-label">E-mail</span>
        <input ref={emailBox} className="input" type="email" name="email" autoComplete="email" inputMode="email" required value={email} onChange={(event) => setEmail(event.target.value)} {...about("email")} />
      </label>
      <div className="field">
        <label className="field-label" htmlFor="password">
          Password
        </label>
        <div className="password">
          <input
            ref={passwordBox}
            id="password"
            className="input"
            type={visible ? "text" : "password"}
            name="password"
            autoComplete={signUp ? "new-password" : "current-password"}
            autoCapitalize="none"
            spellCheck={false}
            required
            value={password}
            onChange={(event) => setPassword(event.target.value)}
            {...about("password")}
          />
          <IconButton label={visible ? "Hide password" : "Show password"} icon={visible ? "eyeOff" : "eye"} aria-pressed={visible} onClick={() => setVisible(!visible)} />
        </div>
        {signUp ? <p className="field-help">Long beats complicated: a few words you remember are fine.</p> : null}
      </div>
      <Button tone="primary" type="submit" className="button-wide" busy={busy} disabled={waitS > 0 || email.trim() === "" || password === ""}>
        {waitS > 0 ? `Wait ${waitS} s` : signUp ? "Create account" : "Sign in"}
      </Button>
    </form>
  );
}
