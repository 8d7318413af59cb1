/**
 * Asked before the chats open: a second factor of somebody who must have one and has none.
 *
 * The right code raises the session at once, and only then there are recovery codes: the page
 * holds the chats back until those are kept.
 */
import { useEffect, useState, type ReactNode } from "react";
import { useAuth } from "../auth";
import { announce } from "../ui/announce";
import { Button, Notice, Spinner } from "../ui/controls";
import { useLatest } from "../ui/hooks";
import { beginEnrolment, EnrolForm, makeRecoveryCodes, RecoveryCodes, type Enrolment } from "./authenticator-app";
import { Gate, ProblemNotice, useProblem } from "./gate";
import { PasskeyButton, usePasskeysPossible } from "./passkey-button";

/** The auth client asks for the next token so long before this one ends; then there is none. */
const EARLIER_S = 120;

type Step = { at: "choice" } | { at: "app"; enrolment: Enrolment } | { at: "codes" };

/** *hold* keeps this page, whatever the session says meanwhile, until it is let go. */
export function EnrolmentPage({ hold }: { hold: (held: boolean) => void }) {
  const { client } = useAuth();
  const [step, setStep] = useState<Step>({ at: "choice" });

  useEffect(() => () => hold(false), [hold]);

  const verify = async (factorId: string, code: string) => {
    hold(true);
    const result = await client.auth.mfa.challengeAndVerify({ factorId, code });
    if (result.error) hold(false);
    return result;
  };
  const verified = () => {
    announce("The second factor is on.");
    setStep({ at: "codes" });
  };

  switch (step.at) {
    case "choice":
      return (
        <Gate
          key="choice"
          title="Set up a second factor"
          lead="This server asks people like you for more than one proof of who they are. From now on, you sign in as before and then type a code that an app on your phone shows."
        >
          <Choice begun={(enrolment) => setStep({ at: "app", enrolment })} />
          <Leave />
        </Gate>
      );
    case "app":
      return (
        <Gate key="app" title="Add your authenticator app" lead={<Deadline />}>
          <EnrolForm className="gate-form" enrolment={step.enrolment} verify={(code) => verify(step.enrolment.id, code)} verified={verified} />
          <Leave>
            <button type="button" className="text-button" onClick={() => setStep({ at: "choice" })}>
              Back
            </button>
          </Leave>
        </Gate>
      );
    case "codes":
      return (
        <Gate key="codes" title="Keep your recovery codes" lead="The second factor is on. These codes let you in on the day your app is lost.">
          <Codes done={() => hold(false)} />
        </Gate>
      );
  }
}

function Choice({ begun }: { begun: (enrolment: Enrolment) => void }) {
  const { client } = useAuth();
  const [busy, setBusy] = useState(false);
  const { problem, waitS, fail, clear } = useProblem();

  const begin = async () => {
    setBusy(true);
    clear();
    const { data, error } = await beginEnrolment(client);
    setBusy(false);
    if (data) begun(data);
    else fail(error);
  };
  return (
    <div className="gate-form">
      <p className="quiet">
        Any authenticator app will do. <Deadline />
      </p>
      <ProblemNotice problem={problem} waitS={waitS} />
      <Button tone="primary" className="button-wide" busy={busy} disabled={waitS > 0} onClick={() => void begin()}>
        {waitS > 0 ? `Wait ${waitS} s` : "Set up an authenticator app"}
      </Button>
      <PasskeyInstead />
    </div>
  );
}

/** A sign-in with a passkey needs no other factor: with the one there is, or with a new one. */
function PasskeyInstead() {
  const { client } = useAuth();
  const possible = usePasskeysPossible();
  const [has, setHas] = useState<boolean | null>(null);
  const [added, setAdded] = useState(false);
  const [busy, setBusy] = useState(false);
  const { problem, waitS, fail, clear } = useProblem();

  useEffect(() => {
    let current = true;
    if (possible) void client.auth.passkey.list().then(({ data }) => current && setHas((data?.length ?? 0) > 0));
    return () => {
      current = false;
    };
  }, [possible, client]);

  if (!possible || has === null) return null;
  const add = async () => {
    setBusy(true);
    clear();
    const { error } = await client.auth.registerPasskey();
    // To have added it raises no session. Where the browser wants another press for this, it gets one.
    if (!error) await client.auth.signInWithPasskey();
    setBusy(false);
    if (error) fail(error);
    setAdded(!error);
    setHas(!error);
  };
  return (
    <div className="gate-providers">
      {has ? (
        <>
          {added ? <Notice tone="info">Your passkey is added. Sign in with it now.</Notice> : null}
          <PasskeyButton />
        </>
      ) : (
        <>
          <ProblemNotice problem={problem} waitS={waitS} />
          <Button className="button-wide" icon="key" busy={busy} disabled={waitS > 0} onClick={() => void add()}>
            Add a passkey and sign in with it
          </Button>
        </>
      )}
    </div>
  );
}

function Codes({ done }: { done: () => void }) {
  const { client } = useAuth();
  const [codes, setCodes] = useState<string[] | null>(null);
  const [busy, setBusy] = useState(true);
  const { problem, waitS, fail, clear } = useProblem();

  const make = useLatest(async () => {
    setBusy(true);
    clear();
    const { data, error } = await makeRecoveryCodes(client);
    setBusy(false);
    if (data) setCodes(data);
    else fail(error);
  });
  useEffect(() => void make(), [make]);

  if (codes) return <RecoveryCodes className="gate-form" codes={codes} done={done} />;
  if (busy) {
    return (
      <div className="gate-form" role="status">
        <Spinner />
        <span className="visually-hidden">Making recovery codes</span>
      </div>
    );
  }
  return (
    <div className="gate-form">
      <ProblemNotice problem={problem} waitS={waitS} />
      <Button tone="primary" className="button-wide" icon="refresh" disabled={waitS > 0} onClick={() => void make()}>
        {waitS > 0 ? `Wait ${waitS} s` : "Try again"}
      </Button>
      <Button className="button-wide" onClick={done}>
        Go on, and make them in the settings
      </Button>
    </div>
  );
}

/** Until when there is time: no further token comes before the factor does. */
function Deadline() {
  const { client } = useAuth();
  const [until, setUntil] = useState<number | null>(null);

  useEffect(() => {
    let current = true;
    void client.auth.getSession().then(({ data }) => current && setUntil(data.session?.expires_at ?? null));
    return () => {
      current = false;
    };
  }, [client]);

  if (until === null) return null;
  const time = new Intl.DateTimeFormat(undefined, { timeStyle: "short" }).format((until - EARLIER_S) * 1000);
  return `You have until ${time}; after that, sign in again and start over.`;
}

function Leave({ children }: { children?: ReactNode }) {
  const { signOut } = useAuth();
  return (
    <div className="gate-links">
      {children}
      <button type="button" className="text-button" onClick={() => void signOut()}>
        Sign out
      </button>
    </div>
  );
}
