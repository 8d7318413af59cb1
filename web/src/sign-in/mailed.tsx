/** Something was mailed: open its link in this browser, or type its code here. */
import { useEffect, useRef, useState, type FormEvent } from "react";
import { useAuth } from "../auth";
import { announce } from "../ui/announce";
import { Button, Notice } from "../ui/controls";
import { isTouch, useSecondsUntil } from "../ui/hooks";
import { Told } from "../ui/told";
import { CodeBox, ProblemNotice, useProblem } from "./gate";

// The server mails to one address once a minute.
const RESEND_AFTER_MS = 60_000;

interface MailedProps {
  email: string;
  type: "signup" | "email" | "recovery";
  resend: () => Promise<{ error: unknown }>;
  back: () => void;
}

const SENT: Record<MailedProps["type"], string> = {
  signup: "Open its link in this browser to confirm your address, or type its code here.",
  email: "Open its link in this browser to sign in, or type its code here.",
  recovery: "Open its link in this browser, or type its code here, and choose a new password.",
};

export function Mailed({ email, type, resend, back }: MailedProps) {
  const { client } = useAuth();
  const [code, setCode] = useState("");
  const [busy, setBusy] = useState(false);
  const [again, setAgain] = useState(() => Date.now() + RESEND_AFTER_MS);
  const { problem, waitS, fail, clear, invalid } = useProblem();
  const pauseS = useSecondsUntil(again);
  const box = useRef<HTMLInputElement>(null);

  useEffect(() => {
    if (!isTouch()) box.current?.focus();
  }, []);

  const submit = async (event: FormEvent) => {
    event.preventDefault();
    setBusy(true);
    clear();
    const { error } = await client.auth.verifyOtp({ email, token: code.replace(/\s/g, ""), type });
    setBusy(false);
    if (!error) return;
    fail(error);
    box.current?.focus();
  };
  const sendAgain = async () => {
    clear();
    const { error } = await resend();
    if (error) fail(error);
    else {
      setAgain(Date.now() + RESEND_AFTER_MS);
      announce(`Sent again to ${email}.`);
    }
  };

  return (
    <form className="gate-form" onSubmit={(event) => void submit(event)}>
      <Notice tone="info">
        If <strong><Told text={email} /></strong> can be used here, we sent it an e-mail. {SENT[type]}
      </Notice>
      <ProblemNotice problem={problem} waitS={waitS} />
      <CodeBox ref={box} label="Code" value={code} onChange={setCode} invalid={invalid("code")} />
      <Button tone="primary" type="submit" className="button-wide" busy={busy} disabled={waitS > 0 || code.trim() === ""}>
        {waitS > 0 ? `Wait ${waitS} s` : "Go on"}
      </Button>
      <div className="gate-links">
        <button type="button" className="text-button" disabled={pauseS > 0} onClick={() => void sendAgain()}>
          {pauseS > 0 ? `Send again in ${pauseS} s` : "Send again"}
        </button>
        <button type="button" className="text-button" onClick={back}>
          Use another address
        </button>
      </div>
    </form>
  );
}
