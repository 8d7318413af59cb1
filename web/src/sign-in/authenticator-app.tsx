/** An authenticator app and its recovery codes, set up before the chats or in the settings. */
import { useEffect, useRef, useState, type FormEvent, type ReactNode } from "react";
import type { SupabaseClient } from "@supabase/supabase-js";
import { Button, Notice } from "../ui/controls";
import { copyText, isTouch, saveFile } from "../ui/hooks";
import { toast } from "../ui/toasts";
import { CodeBox, ProblemNotice, useProblem } from "./gate";

/** An app that is not verified yet: what it has to be told. */
export interface Enrolment {
  id: string;
  qrCode: string;
  secret: string;
  uri: string;
}

type Answer<T> = Promise<{ data: T | null; error: unknown }>;

/** Begin with another app. What was begun before and never verified goes. */
export async function beginEnrolment({ auth }: SupabaseClient): Answer<Enrolment> {
  const taken = new Set<string | undefined>();
  const { data: before } = await auth.mfa.listFactors();
  for (const one of before?.all ?? []) {
    // It only takes up a name.
    if (one.status === "unverified" && one.factor_type === "totp") await auth.mfa.unenroll({ factorId: one.id });
    else taken.add(one.friendly_name);
  }
  const name = `App ${new Date().toISOString().slice(0, 16).replace("T", " ")}`;
  let friendlyName = name;
  for (let number = 2; taken.has(friendlyName); number++) friendlyName = `${name} (${number})`;
  const { data, error } = await auth.mfa.enroll({ factorType: "totp", friendlyName });
  return { data: data && { id: data.id, qrCode: data.totp.qr_code, secret: data.totp.secret, uri: data.totp.uri }, error };
}

/** Make recovery codes; those from before are worth nothing then. */
export async function makeRecoveryCodes({ auth }: SupabaseClient): Answer<string[]> {
  const { recoveryCodes } = auth.mfa;
  const { data: status } = await recoveryCodes.getStatus();
  const { data, error } = status && status.total > 0 ? await recoveryCodes.regenerate() : await recoveryCodes.generate();
  return { data: data?.codes ?? null, error };
}

interface EnrolFormProps {
  enrolment: Enrolment;
  /** Try the code that was typed, which goes with `verified` when it was the right one. */
  verify: (code: string) => Promise<{ error: unknown }>;
  verified: () => void;
  className: string;
  onCancel?: () => void;
}

export function EnrolForm({ enrolment, verify, verified, className, onCancel }: EnrolFormProps) {
  const [code, setCode] = useState("");
  const [busy, setBusy] = useState(false);
  const { problem, waitS, fail, clear, invalid } = useProblem();
  const box = useRef<HTMLInputElement>(null);

  useEffect(() => {
    // A keyboard on the glass would hide what is to be scanned.
    if (!isTouch()) box.current?.focus();
  }, []);

  const submit = async (event: FormEvent) => {
    event.preventDefault();
    setBusy(true);
    clear();
    const { error } = await verify(code.replace(/\s/g, ""));
    setBusy(false);
    if (!error) return verified();
    fail(error);
    box.current?.select();
  };
  return (
    <form
      className={className}
      aria-label="Turn on the second factor"
      onSubmit={(event) => void submit(event)}
      onKeyDown={(event) => event.key === "Escape" && onCancel?.()}
    >
      <p>Scan this with your authenticator app, or type the key into it. Then type the code it shows.</p>
      <img className="qr-code" src={enrolment.qrCode} alt="QR code for the authenticator app; the key below says the same" width={180} height={180} />
      <p>
        <span className="field-label">Key </span>
        <code className="secret">{enrolment.secret}</code>
      </p>
      {isTouch() ? (
        <p>
          <a href={enrolment.uri}>Open it in an app on this device</a>
        </p>
      ) : null}
      <ProblemNotice problem={problem} waitS={waitS} />
      <CodeBox ref={box} label="Code" value={code} onChange={setCode} invalid={invalid("code")} />
      <div className="row">
        <Button tone="primary" type="submit" busy={busy} disabled={waitS > 0 || code.trim() === ""}>
          {waitS > 0 ? `Wait ${waitS} s` : "Turn on"}
        </Button>
        {onCancel ? <Button onClick={onCancel}>Cancel</Button> : null}
      </div>
    </form>
  );
}

interface RecoveryCodesProps {
  codes: string[];
  className: string;
  done: () => void;
  children?: ReactNode;
}

export function RecoveryCodes({ codes, className, done, children }: RecoveryCodesProps) {
  const text = `${codes.join("\n")}\n`;
  return (
    <div className={className}>
      {children}
      <Notice tone="warning">Keep them somewhere safe: they are shown only now. Each one stands in for your app once.</Notice>
      <ul className="codes" aria-label="Recovery codes">
        {codes.map((code) => (
          <li key={code}>
            <code>{code}</code>
          </li>
        ))}
      </ul>
      <div className="row">
        <Button icon="copy" onClick={() => void copyText(text).then(() => toast("Copied."), () => toast("The browser does not allow copying here.", { tone: "error" }))}>
          Copy
        </Button>
        <Button icon="download" onClick={() => saveFile(new Blob([text], { type: "text/plain" }), "recovery-codes.txt")}>
          Download
        </Button>
        <Button tone="primary" onClick={done}>
          I have kept them
        </Button>
      </div>
    </div>
  );
}
