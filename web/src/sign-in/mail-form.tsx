/** Asks for a mail: with a link and a code to sign in, or for a forgotten password. */
import { useEffect, useRef, useState, type FormEvent } from "react";
import { useAuth } from "../auth";
import { Button } from "../ui/controls";
import { isTouch } from "../ui/hooks";
import { EmailBox, ProblemNotice, useProblem } from "./gate";
import { Mailed } from "./mailed";

export function MailForm({ forgot }: { forgot: boolean }) {
  const { client } = useAuth();
  const [email, setEmail] = useState("");
  const [busy, setBusy] = useState(false);
  const [sent, setSent] = useState(false);
  const { problem, waitS, fail, clear, invalid } = useProblem();
  const box = useRef<HTMLInputElement>(null);
  const address = email.trim();

  useEffect(() => {
    if (!isTouch()) box.current?.focus();
  }, []);

  const send = () =>
    forgot
      ? client.auth.resetPasswordForEmail(address, { redirectTo: `${location.origin}/new-password` })
      : client.auth.signInWithOtp({ email: address, options: { shouldCreateUser: false, emailRedirectTo: location.origin } });

  const submit = async (event: FormEvent) => {
    event.preventDefault();
    setBusy(true);
    clear();
    const { error } = await send();
    setBusy(false);
    if (!error) return setSent(true);
    fail(error);
    box.current?.focus();
  };

  if (sent) return <Mailed email={address} type={forgot ? "recovery" : "email"} resend={send} back={() => setSent(false)} />;
  return (
    <form className="gate-form" onSubmit={(event) => void submit(event)}>
      <ProblemNotice problem={problem} waitS={waitS} />
      <EmailBox ref={box} value={email} onChange={setEmail} invalid={invalid("email")} />
      <Button tone="primary" type="submit" className="button-wide" busy={busy} disabled={waitS > 0 || address === ""}>
        {waitS > 0 ? `Wait ${waitS} s` : "Send me an e-mail"}
      </Button>
    </form>
  );
}
