/** A second factor: an authenticator app, with recovery codes for the day it is lost. */
import { useEffect, useRef, useState } from "react";
import type { Factor } from "@supabase/supabase-js";
import { useAuth } from "../auth";
import { beginEnrolment, EnrolForm, makeRecoveryCodes, RecoveryCodes, type Enrolment } from "../sign-in/authenticator-app";
import { announce } from "../ui/announce";
import { AskFirst, Button } from "../ui/controls";
import { straight } from "../ui/straight";
import { Told } from "../ui/told";
import { Listing, useListing } from "./listing";

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
      const { data, error } = await beginEnrolment(client);
      if (data) setEnrolment(data);
      return { error };
    });
  const makeCodes = () =>
    change(async () => {
      const { data, error } = await makeRecoveryCodes(client);
      if (data) setCodes(data);
      return { error };
    });
  const verified = async () => {
    setEnrolment(null);
    announce("The second factor is on.");
    await load();
    await makeCodes();
  };
  const nameOf = (factor: Factor) => straight(factor.friendly_name ?? "") || KINDS[factor.factor_type] || factor.factor_type;
  const remove = async (factor: Factor) => {
    const removed = await change(async () => {
      const result = await client.auth.mfa.unenroll({ factorId: factor.id });
      // The level of this session falls with its factor.
      if (!result.error) await client.auth.refreshSession();
      setCodes(null);
      return result;
    });
    if (removed) announce(`${nameOf(factor)} is removed.`);
  };

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
              <p className="field-help">
                <Told text={factor.friendly_name ?? ""} />
              </p>
            </div>
            <AskFirst verb="Remove" name={nameOf(factor)} disabled={busy} run={() => remove(factor)} />
          </>
        )}
      />
      {codes ? (
        <RecoveryCodes className="panel-form" codes={codes} done={() => setCodes(null)}>
          <CodesHeading />
        </RecoveryCodes>
      ) : null}
      {enrolment ? (
        <EnrolForm
          className="panel-form"
          enrolment={enrolment}
          verify={(code) => client.auth.mfa.challengeAndVerify({ factorId: enrolment.id, code })}
          verified={() => void verified()}
          onCancel={() => setEnrolment(null)}
        />
      ) : items === null || codes ? null : (
        <div className="row">
          <Button icon="plus" busy={busy} onClick={() => void begin()}>
            {items.length === 0 ? "Turn on" : "Add another app"}
          </Button>
          {items.length === 0 ? null : (
            <AskFirst verb="New recovery codes" why="The codes that you have would be worth nothing." yes="Yes, make new ones" no="Keep the old ones" disabled={busy} run={makeCodes} />
          )}
        </div>
      )}
    </section>
  );
}

function CodesHeading() {
  const heading = useRef<HTMLHeadingElement>(null);

  useEffect(() => heading.current?.focus(), []);

  return (
    <h3 ref={heading} tabIndex={-1}>
      Recovery codes
    </h3>
  );
}
