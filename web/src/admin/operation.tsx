/** What whoever runs the server looks after: keys that sign, limits, and the way to sign everybody out. */
import { useState, type FormEvent } from "react";
import { ApiError, describe, SessionOver } from "../api";
import { useAuth } from "../auth";
import { Button, Notice } from "../ui/controls";
import { Dialog } from "../ui/dialog";
import { toast } from "../ui/toasts";
import { useLocale, useWorkspace } from "../workspace";
import { Read, useReading } from "./reading";

interface SigningKey {
  kid: string;
  algorithm: string;
  status: string;
  created_at: string;
  signs_since: string | null;
  until: string | null;
}

interface Limits {
  enabled: boolean;
  limits: { kind: string; burst: number; period_seconds: number; shared: boolean }[];
  at_once: Record<string, number>;
}

export function OperationPage() {
  const { api } = useWorkspace();
  const keys = useReading("keys", async (signal) => (await api.json<{ keys: SigningKey[] }>("GET", "/api/admin/signing-keys", undefined, signal)).keys);
  const limits = useReading("limits", (signal) => api.json<Limits>("GET", "/api/admin/limits", undefined, signal));
  return (
    <>
      <section className="panel" aria-labelledby="signing-keys">
        <h2 id="signing-keys">Keys that sign</h2>
        <Read reading={keys} what="the keys">
          {(found) => <Keys keys={found} />}
        </Read>
        <p className="field-help">
          <code>chatkeep keys rotate</code> lets the next one sign.
        </p>
      </section>
      {/* Who may not see the keys is told so once. */}
      {keys.failure === null ? (
        <>
          <section className="panel" aria-labelledby="limits">
            <h2 id="limits">Limits</h2>
            <Read reading={limits} what="the limits">
              {(found) => <LimitTable limits={found} />}
            </Read>
          </section>
          <EverybodyOut />
        </>
      ) : null}
    </>
  );
}

const TURNS: Record<string, string> = { current: "signs now", standby: "published, signs next", previous: "verifies only", revoked: "revoked" };

function Keys({ keys }: { keys: SigningKey[] }) {
  const moment = new Intl.DateTimeFormat(useLocale(), { dateStyle: "medium", timeStyle: "short" });
  const on = (value: string | null) => (value === null ? "–" : moment.format(new Date(value)));
  return (
    <div className="used-scroll" tabIndex={0} role="region" aria-label="Table of the keys">
      <table className="used">
        <thead>
          <tr>
            <th scope="col">Key</th>
            <th scope="col">Turn</th>
            <th scope="col">Algorithm</th>
            <th scope="col">Made</th>
            <th scope="col">Signs since</th>
            <th scope="col">Published until</th>
          </tr>
        </thead>
        <tbody>
          {keys.map((one) => (
            <tr key={one.kid}>
              <th scope="row">{one.kid}</th>
              <td>{TURNS[one.status] ?? one.status}</td>
              <td>{one.algorithm}</td>
              <td>{on(one.created_at)}</td>
              <td>{on(one.signs_since)}</td>
              <td>{on(one.until)}</td>
            </tr>
          ))}
        </tbody>
      </table>
    </div>
  );
}

function LimitTable({ limits }: { limits: Limits }) {
  const number = new Intl.NumberFormat(useLocale());
  return (
    <>
      {limits.enabled ? null : <Notice tone="warning">Limits are switched off.</Notice>}
      <details>
        <summary>What may be done how often</summary>
        <div className="used-scroll" tabIndex={0} role="region" aria-label="Table of the limits">
          <table className="used">
            <thead>
              <tr>
                <th scope="col">What</th>
                <th scope="col">At most</th>
                <th scope="col">In seconds</th>
                <th scope="col">Of all servers with one Redis</th>
              </tr>
            </thead>
            <tbody>
              {limits.limits.map((one) => (
                <tr key={one.kind}>
                  <th scope="row">{one.kind}</th>
                  <td>{number.format(one.burst)}</td>
                  <td>{number.format(one.period_seconds)}</td>
                  <td>{one.shared ? "together" : "each"}</td>
                </tr>
              ))}
              {Object.entries(limits.at_once).map(([kind, most]) => (
                <tr key={`at once ${kind}`}>
                  <th scope="row">{kind}</th>
                  <td>{number.format(most)}</td>
                  <td>at once</td>
                  <td>each</td>
                </tr>
              ))}
            </tbody>
          </table>
        </div>
      </details>
    </>
  );
}

const WORD = "everybody";

function EverybodyOut() {
  const { api } = useWorkspace();
  const { signInAgain } = useAuth();
  const [asked, setAsked] = useState(false);
  const [busy, setBusy] = useState(false);
  const [typed, setTyped] = useState("");

  const close = () => {
    setAsked(false);
    setTyped("");
  };
  const send = async (event: FormEvent) => {
    event.preventDefault();
    if (typed.trim().toLowerCase() !== WORD) return;
    setBusy(true);
    try {
      await api.json("POST", "/api/admin/sign-out-everybody", { reason: "from the admin console" });
      // The session of whoever did it has ended, too: the next request says so.
      await signInAgain();
    } catch (error) {
      if (error instanceof SessionOver) return;
      const late = error instanceof ApiError && error.code === "step_up_required";
      toast(`Nobody was signed out. ${describe(error)}`, { tone: "error", ...(late ? { action: { label: "Sign in again", run: () => void signInAgain() } } : {}) });
      close();
    } finally {
      setBusy(false);
    }
  };
  return (
    <section className="panel" aria-labelledby="everybody">
      <h2 id="everybody">Everything may be stolen</h2>
      <div className="panel-row">
        <div>
          <p>Sign everybody out, at every issuer, yourself too.</p>
        </div>
        <Button tone="danger" icon="signOut" onClick={() => setAsked(true)}>
          Sign everybody out
        </Button>
      </div>
      {asked ? (
        <Dialog title="Sign everybody out?" onClose={close}>
          <form className="panel-form" onSubmit={(event) => void send(event)}>
            <p>Every session, API key and stream of everybody ends at once, on every server. Nobody can undo it.</p>
            <label className="field">
              <span className="field-label">Type “{WORD}” to go on</span>
              <input className="input" value={typed} autoComplete="off" autoCapitalize="none" spellCheck={false} onChange={(event) => setTyped(event.target.value)} />
            </label>
            <div className="row row-end">
              <Button onClick={close}>Cancel</Button>
              <Button type="submit" tone="danger" busy={busy} disabled={typed.trim().toLowerCase() !== WORD}>
                Sign everybody out now
              </Button>
            </div>
          </form>
        </Dialog>
      ) : null}
    </section>
  );
}
