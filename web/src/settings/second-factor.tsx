/** A second factor: an authenticator app, with recovery codes for the day it is lost. */
import { useEffect, useRef, useState, type FormEvent } from "react";
import type { Factor } from "@supabase/supabase-js";
import { useAuth } from "../auth";
import { CodeBox, ProblemNotice, useProblem } from "../sign-in/gate";
import { announce } from "../ui/announce";
import { Button, Notice } from "../ui/controls";
import { copyText, saveFile } from "../ui/hooks";
import { toast } from "../ui/toasts";
import { Listing, useListing } from "./listing";

interface Enrolment {
  id: string;
  qrCode: string;
  secret: string;
}

const KINDS: Record<string, string> = { totp: "Authenticator app", webauthn: "Security key" };

export function SecondFactorPanel() {
  const { client } = useAuth();
  const [enrolment, setEnrolment] = useState<Enrolment | null>(null);
  const [codes, setCodes] = useState<string[] | null>(null);
  const listing = useListing<Factor>(async () => {
    const { data, error } = await client.auth.mfa.listFactors();
    return { data: data?.all.filter((one) => one.status === "verified" && one.factor_type in KINDS) ?? null, error };
  });
  const { items, busy, change, load } = listing;

  const begin = () =>
    change(async () => {
      // What was begun and never verified only takes up a name.
      const { data: before } = await client.auth.mfa.listFactors();
      for (const one of before?.all ?? []) {
        if (one.status === "unverified" && one.factor_type === "totp") await client.auth.mfa.unenroll({ factorId: one.id });
      }
      const { data, error } = await client.auth.mfa.enroll({ factorType: "totp", friendlyName: `App ${new Date().toISOString().slice(0, 16).replace("T", " ")}` });
      if (data) setEnrolment({ id: data.id, qrCode: data.totp.qr_code, secret: data.totp.secret });
      return { error };
    });
  const makeCodes = () =>
    change(async () => {
      const { data: status } = await client.auth.mfa.recoveryCodes.getStatus();
      const { recoveryCodes } = client.auth.mfa;
      const { data, error } = status && status.total > 0 ? await recoveryCodes.regenerate() : await recoveryCodes.generate();
      if (data) setCodes(data.codes);
      return { error };
    });
  const verified = async () => {
    setEnrolment(null);
    announce("The second factor is on.");
    await load();
    await makeCodes();
  };
  const remove = (factor: Factor) =>
    change(async () => {
      const result = await client.auth.mfa.unenroll({ factorId: factor.id });
      // The level of this session falls with its factor.
      if (!result.error) await client.auth.refreshSession();
      setCodes(null);
      return result;
    });

  return (
    <section className="panel" aria-labelledby="second-factor">
      <h2 id="second-factor">Second factor</h2>
      <p className="field-help">A code from an app on your phone, asked for after your password.</p>
      <Listing
        listing={listing}
        label="Second factors"
        empty="It is off."
        row={(factor) => (
          <>
            <div>
              <p>{KINDS[factor.factor_type] ?? factor.factor_type}</p>
              <p className="field-help">{factor.friendly_name}</p>
            </div>
            <Button tone="danger" disabled={busy} aria-label={`Remove ${factor.friendly_name || KINDS[factor.factor_type]}`} onClick={() => void remove(factor)}>
              Remove
            </Button>
          </>
        )}
      />
      {codes ? <RecoveryCodes codes={codes} done={() => setCodes(null)} /> : null}
      {enrolment ? (
        <Enrol enrolment={enrolment} verified={() => void verified()} cancel={() => setEnrolment(null)} />
      ) : items === null || codes ? null : (
        <div className="row">
          <Button icon="plus" busy={busy} onClick={() => void begin()}>
            {items.length === 0 ? "Turn on" : "Add another app"}
          </Button>
          {items.length === 0 ? null : (
            <Button busy={busy} onClick={() => void makeCodes()}>
              New recovery codes
            </Button>
          )}
        </div>
      )}
    </section>
  );
}

function Enrol({ enrolment, verified, cancel }: { enrolment: Enrolment; verified: () => void; cancel: () => void }) {
  const { client } = useAuth();
  const [code, setCode] = useState("");
  const [busy, setBusy] = useState(false);
  const { problem, waitS, fail, clear } = useProblem();
  const box = useRef<HTMLInputElement>(null);

  useEffect(() => box.current?.focus(), []);

  const submit = async (event: FormEvent) => {
    event.preventDefault();
    setBusy(true);
    clear();
    const { error } = await client.auth.mfa.challengeAndVerify({ factorId: enrolment.id, code: code.replace(/\s/g, "") });
    setBusy(false);
    if (!error) return verified();
    fail(error);
    box.current?.select();
  };
  return (
    <form className="panel-form" aria-label="Turn on the second factor" onSubmit={(event) => void submit(event)} onKeyDown={(event) => event.key === "Escape" && cancel()}>
      <p>Scan this with your authenticator app, or type the key into it. Then type the code it shows.</p>
      <img className="qr-code" src={enrolment.qrCode} alt="QR code for the authenticator app; the key below says the same" width={180} height={180} />
      <p>
        <span className="field-label">Key </span>
        <code className="secret">{enrolment.secret}</code>
      </p>
      <ProblemNotice problem={problem} waitS={waitS} />
      <CodeBox ref={box} label="Code" value={code} onChange={setCode} invalid={problem?.field === "code"} />
      <div className="row">
        <Button tone="primary" type="submit" busy={busy} disabled={waitS > 0 || code.trim() === ""}>
          Turn on
        </Button>
        <Button onClick={cancel}>Cancel</Button>
      </div>
    </form>
  );
}

function RecoveryCodes({ codes, done }: { codes: string[]; done: () => void }) {
  const heading = useRef<HTMLHeadingElement>(null);
  const text = `${codes.join("\n")}\n`;

  useEffect(() => heading.current?.focus(), []);

  return (
    <div className="panel-form">
      <h3 ref={heading} tabIndex={-1}>
        Recovery codes
      </h3>
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
