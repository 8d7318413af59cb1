/** One person: who they are, where they are signed in, and how to keep them out. */
import { useId, useState, type FormEvent } from "react";
import { ApiError, describe, SessionOver } from "../api";
import { useAuth, useUser } from "../auth";
import { Link } from "../router";
import { announce } from "../ui/announce";
import { AskFirst, Button, Notice } from "../ui/controls";
import { Dialog } from "../ui/dialog";
import { Icon } from "../ui/icons";
import { straight } from "../ui/straight";
import { Told } from "../ui/told";
import { toast } from "../ui/toasts";
import { useLocale, useWorkspace } from "../workspace";
import { isForGood, isSuspended, type Person, type PersonSession } from "./figures";
import { Badges } from "./people";
import { PersonKeys, PersonUsage, type PersonKey } from "./person-more";
import { Read, useReading } from "./reading";

type Act = "sign-out" | "ban" | "unban";

const LENGTHS: { seconds: number | null; name: string }[] = [
  { seconds: 3_600, name: "One hour" },
  { seconds: 86_400, name: "One day" },
  { seconds: 7 * 86_400, name: "One week" },
  { seconds: 30 * 86_400, name: "30 days" },
  { seconds: null, name: "Until it is lifted" },
];

export function PersonPage({ id }: { id: string }) {
  const { api } = useWorkspace();
  const { signInAgain } = useAuth();
  const own = useUser().id === id;
  const at = `/api/admin/users/${encodeURIComponent(id)}`;
  const [asked, setAsked] = useState<Act | null>(null);
  const [busy, setBusy] = useState<string | null>(null);
  const person = useReading(id, async (signal): Promise<{ found: Person | null }> => {
    try {
      return { found: await api.json<Person>("GET", at, undefined, signal) };
    } catch (error) {
      // Of somebody of another issuer only their sessions and suspension are known here.
      if (error instanceof ApiError && error.status === 404) return { found: null };
      throw error;
    }
  });
  const sessions = useReading(id, async (signal) => (await api.json<{ sessions: PersonSession[] }>("GET", `${at}/sessions?ended=true`, undefined, signal)).sessions);

  const keys = useReading(id, async (signal) => (await api.json<{ keys: PersonKey[] }>("GET", `${at}/keys`, undefined, signal)).keys);

  const run = async (key: string, work: () => Promise<string>, undo?: () => void) => {
    setBusy(key);
    try {
      const said = await work();
      if (undo) toast(said, { action: { label: "Undo", run: undo } });
      else announce(said);
      setAsked(null);
    } catch (error) {
      if (error instanceof SessionOver) return;
      const late = error instanceof ApiError && error.code === "step_up_required";
      toast(`Nothing was changed. ${describe(error)}`, { tone: "error", ...(late ? { action: { label: "Sign in again", run: () => void signInAgain() } } : {}) });
    } finally {
      setBusy(null);
      person.again();
      sessions.again();
      keys.again();
    }
  };
  const lift = (reason: string | null) =>
    run("unban", async () => {
      await api.json("POST", `${at}/unban`, { reason });
      return "The suspension is lifted. What was ended stays ended.";
    });
  const act = (kind: Act, reason: string | null, seconds: number | null) => {
    if (kind === "unban") void lift(reason);
    else if (kind === "ban") {
      void run(
        "ban",
        async () => {
          await api.json("POST", `${at}/ban`, { seconds, reason });
          return "Suspended, and signed out everywhere.";
        },
        () => void lift("undone"),
      );
    } else {
      void run("sign-out", async () => {
        const { revoked } = await api.json<{ revoked: number }>("POST", `${at}/sign-out`, { reason });
        return `Signed out everywhere: ${revoked === 1 ? "one session" : `${revoked} sessions`}.`;
      });
    }
  };
  const end = (one: PersonSession) =>
    run(one.id, async () => {
      await api.json("DELETE", `${at}/sessions/${one.id}`);
      return "That session has ended.";
    });

  const revoke = (one: PersonKey) =>
    run(one.id, async () => {
      await api.json("DELETE", `${at}/keys/${one.id}`);
      return `${straight(one.name)} works no more.`;
    });

  const suspended = person.value?.found ? isSuspended(person.value.found, Date.now()) : false;
  return (
    <>
      <p>
        <Link href="/admin/people">All people</Link> · <Link href={`/admin/audit?user=${encodeURIComponent(id)}`}>In the audit log</Link>
      </p>
      <section className="panel" aria-labelledby="person">
        <Read reading={person} what="the person">
          {({ found }) => <Facts id={id} person={found} />}
        </Read>
        {own ? <Notice tone="info">This is your own account.</Notice> : null}
        {person.value === null ? null : (
          <div className="row">
            <Button icon="signOut" disabled={busy !== null} onClick={() => setAsked("sign-out")}>
              Sign out everywhere
            </Button>
            {suspended ? (
              <Button icon="refresh" disabled={busy !== null} onClick={() => setAsked("unban")}>
                Lift the suspension
              </Button>
            ) : (
              <Button tone="danger" disabled={busy !== null} onClick={() => setAsked("ban")}>
                Suspend
              </Button>
            )}
          </div>
        )}
      </section>
      {person.value === null ? null : (
        <>
          <section className="panel" aria-labelledby="person-sessions">
            <h2 id="person-sessions">Sessions</h2>
            <Read reading={sessions} what="sessions">
              {(found) => <Sessions sessions={found} busy={busy} end={end} />}
            </Read>
          </section>
          <PersonUsage at={at} />
          <PersonKeys reading={keys} busy={busy} revoke={revoke} />
        </>
      )}
      {asked === null ? null : <Confirm act={asked} own={own} busy={busy !== null} onClose={() => setAsked(null)} confirm={act} />}
    </>
  );
}

function Facts({ id, person }: { id: string; person: Person | null }) {
  const moment = new Intl.DateTimeFormat(useLocale(), { dateStyle: "medium", timeStyle: "short" });
  const on = (value: string | null) => (value === null ? "never" : moment.format(new Date(value)));
  const title = person?.email ?? person?.name ?? (person?.is_anonymous ? "A guest" : id);
  const account = person !== null && person.created_at !== null;
  return (
    <>
      <h2 id="person">
        <Told text={title} /> {person === null ? null : <Badges person={person} />}
      </h2>
      <dl className="facts">
        <dt>Id</dt>
        <dd>
          <Told text={id} />
        </dd>
        {person !== null && person.banned_until !== null && isSuspended(person, Date.now()) ? (
          <>
            <dt>Suspended</dt>
            <dd>{isForGood(person.banned_until) ? "until it is lifted" : `until ${on(person.banned_until)}`}</dd>
          </>
        ) : null}
        {account ? (
          <>
            <dt>Name</dt>
            <dd>{person.name === null ? "none" : <Told text={person.name} />}</dd>
            <dt>Address confirmed</dt>
            <dd>{on(person.email_confirmed_at)}</dd>
            <dt>Signs in with</dt>
            <dd>{person.providers.join(", ") || "nothing yet"}</dd>
            <dt>Second factor</dt>
            <dd>{person.has_second_factor ? "yes" : "no"}</dd>
            <dt>Account since</dt>
            <dd>{on(person.created_at)}</dd>
            <dt>Last signed in</dt>
            <dd>{on(person.last_sign_in_at)}</dd>
          </>
        ) : null}
      </dl>
      {account ? null : <p className="field-help">This server has no account of that id. If another issuer gave it, what is below holds for them, too.</p>}
    </>
  );
}

function Sessions({ sessions, busy, end }: { sessions: PersonSession[]; busy: string | null; end: (one: PersonSession) => Promise<void> }) {
  const moment = new Intl.DateTimeFormat(useLocale(), { dateStyle: "medium", timeStyle: "short" });
  const on = (value: string) => moment.format(new Date(value));
  if (sessions.length === 0) return <p className="field-help">They are signed in nowhere, and were not lately.</p>;
  return (
    <ul className="rows" aria-label="Sessions">
      {sessions.map((one) => (
        <li key={one.id} className={one.is_active ? "panel-row" : "panel-row is-ended"}>
          <Icon name="device" size={22} />
          <div>
            <p>
              <Told text={one.device ?? "Unknown device"} />, {one.address ?? "unknown address"}
            </p>
            <p className="field-help">
              <Told text={one.issuer} /> · signed in {on(one.created_at)} · last seen {on(one.last_seen_at)}
              {one.is_active ? null : (
                <>
                  {" "}
                  · ended{one.ended_at === null ? null : ` ${on(one.ended_at)}`}
                  {one.reason === null ? null : (
                    <>
                      {" "}
                      (<Told text={one.reason} />)
                    </>
                  )}
                </>
              )}
            </p>
          </div>
          {one.is_active ? (
            <AskFirst verb="End" name={`the session on ${straight(one.device ?? "an unknown device")}, ${one.address ?? "unknown address"}`} disabled={busy !== null} run={() => end(one)} />
          ) : null}
        </li>
      ))}
    </ul>
  );
}

const WORDS: Record<Act, { title: string; does: string; button: string }> = {
  "sign-out": { title: "Sign out everywhere?", does: "Every session of theirs, every API key and every stream ends at once, on every server. They may sign in again.", button: "Sign out" },
  ban: { title: "Suspend?", does: "Everything of theirs ends at once, on every server, and they cannot sign in. What they said stays.", button: "Suspend" },
  unban: { title: "Lift the suspension?", does: "They may sign in again. What was ended stays ended.", button: "Lift it" },
};

interface ConfirmProps {
  act: Act;
  own: boolean;
  busy: boolean;
  onClose: () => void;
  confirm: (act: Act, reason: string | null, seconds: number | null) => void;
}

function Confirm({ act, own, busy, onClose, confirm }: ConfirmProps) {
  const id = useId();
  const [reason, setReason] = useState("");
  const [length, setLength] = useState("1");
  const { title, does, button } = WORDS[act];
  const send = (event: FormEvent) => {
    event.preventDefault();
    confirm(act, reason.trim() || null, LENGTHS[Number(length)]?.seconds ?? null);
  };
  return (
    <Dialog title={title} onClose={onClose}>
      <form className="panel-form" onSubmit={send}>
        <p>{does}</p>
        {own && act !== "unban" ? <Notice tone="warning">This is your own account: you would be signed out here, too.</Notice> : null}
        {act === "ban" ? (
          <div className="field">
            <label className="field-label" htmlFor={`${id}-length`}>
              For how long
            </label>
            <div className="select">
              <select id={`${id}-length`} className="input" value={length} onChange={(event) => setLength(event.target.value)}>
                {LENGTHS.map((one, place) => (
                  <option key={one.name} value={place}>
                    {one.name}
                  </option>
                ))}
              </select>
            </div>
          </div>
        ) : null}
        <div className="field">
          <label className="field-label" htmlFor={`${id}-reason`}>
            Reason, for the audit log
          </label>
          <input id={`${id}-reason`} className="input" maxLength={200} value={reason} onChange={(event) => setReason(event.target.value)} />
        </div>
        <div className="row row-end">
          <Button onClick={onClose}>Cancel</Button>
          <Button type="submit" tone={act === "unban" ? "primary" : "danger"} busy={busy}>
            {button}
          </Button>
        </div>
      </form>
    </Dialog>
  );
}
