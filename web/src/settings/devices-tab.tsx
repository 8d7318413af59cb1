/** Where the person is signed in, and ending it there. */
import { useEffect, useState } from "react";
import { ApiError, describe, SessionOver } from "../api";
import { useAuth } from "../auth";
import { announce } from "../ui/announce";
import { AskFirst, Button, Notice } from "../ui/controls";
import { Icon } from "../ui/icons";
import { useLatest } from "../ui/hooks";
import { straight } from "../ui/straight";
import { Told } from "../ui/told";
import { toast } from "../ui/toasts";
import { useLocale, useWorkspace } from "../workspace";
import type { DeviceSession } from "../wire";

const STEPS: [Intl.RelativeTimeFormatUnit, number][] = [
  ["day", 86_400],
  ["hour", 3_600],
  ["minute", 60],
];

/** "5 minutes ago"; what was less than a minute ago is now, because nobody notes it closer. */
function since(moment: string, locale: string | undefined): string {
  const seconds = (Date.now() - Date.parse(moment)) / 1000;
  const format = new Intl.RelativeTimeFormat(locale ?? "en", { numeric: "auto" });
  for (const [unit, length] of STEPS) {
    if (seconds >= length) return format.format(-Math.floor(seconds / length), unit);
  }
  return "just now";
}

export function DevicesTab() {
  const { api } = useWorkspace();
  const { signOut } = useAuth();
  const [sessions, setSessions] = useState<DeviceSession[] | null>(null);
  const [failure, setFailure] = useState<string | null>(null);
  const [ending, setEnding] = useState<string | null>(null);

  const load = useLatest(async () => {
    try {
      setSessions((await api.json<{ sessions: DeviceSession[] }>("GET", "/api/sessions")).sessions);
      setFailure(null);
    } catch (error) {
      if (!(error instanceof SessionOver)) setFailure(describe(error));
    }
  });
  useEffect(() => {
    const back = () => {
      if (document.visibilityState === "visible") void load();
    };
    void load();
    addEventListener("online", back);
    document.addEventListener("visibilitychange", back);
    return () => {
      removeEventListener("online", back);
      document.removeEventListener("visibilitychange", back);
    };
  }, [load]);

  const run = async (key: string, work: () => Promise<unknown>, done: string) => {
    setEnding(key);
    try {
      await work();
      announce(done);
    } catch (error) {
      if (error instanceof SessionOver) return;
      // It had ended already: the list below shows it.
      const gone = error instanceof ApiError && error.status === 404;
      if (!gone) toast(`Nothing was signed out. ${describe(error)}`, { tone: "error" });
    } finally {
      setEnding(null);
    }
    await load();
  };
  const end = (one: DeviceSession) =>
    one.current
      ? signOut()
      : run(one.id, () => api.json("DELETE", `/api/sessions/${one.id}`), `${nameOf(one)} is signed out.`);

  const others = sessions?.filter((one) => !one.current).length ?? 0;
  return (
    <section className="panel" aria-labelledby="devices" aria-busy={sessions === null && failure === null}>
      <h2 id="devices">Devices</h2>
      <p className="field-help">Where you are signed in. Signing out a device takes effect there at once.</p>
      {failure === null ? null : (
        <Notice tone="error" actions={<Button icon="refresh" onClick={() => void load()}>Try again</Button>}>
          Your devices could not be loaded. {failure}
        </Notice>
      )}
      {sessions === null ? (
        failure === null ? <DevicesSkeleton /> : null
      ) : (
        <ul className="rows" aria-label="Devices">
          {sessions.map((one) => (
            <Device key={one.id} session={one} locked={ending !== null} end={() => end(one)} />
          ))}
        </ul>
      )}
      {sessions === null ? null : others === 0 ? (
        <p className="field-help">You are signed in nowhere else.</p>
      ) : (
        <div>
          <AskFirst
            verb="Sign out everywhere else"
            icon="signOut"
            yes={others === 1 ? "Yes, sign one device out" : `Yes, sign ${others} devices out`}
            no="Keep everything"
            disabled={ending !== null}
            run={() => run("others", () => api.json("POST", "/api/sessions/revoke-others"), "Signed out everywhere else.")}
          />
        </div>
      )}
    </section>
  );
}

function nameOf(session: DeviceSession): string {
  return straight(session.device ?? "Unknown device");
}

interface DeviceProps {
  session: DeviceSession;
  locked: boolean;
  end: () => Promise<void>;
}

function Device({ session, locked, end }: DeviceProps) {
  const locale = useLocale();
  const began = new Intl.DateTimeFormat(locale, { dateStyle: "medium", timeStyle: "short" });
  const name = nameOf(session);
  return (
    <li className="panel-row">
      <Icon name="device" size={22} />
      <div>
        <p>
          <Told text={name} /> {session.current ? <span className="badge">This device</span> : null}
        </p>
        <p className="field-help">
          {session.address ?? "Unknown address"} · last seen{" "}
          <time dateTime={session.last_seen_at} title={began.format(new Date(session.last_seen_at))}>
            {session.current ? "now" : since(session.last_seen_at, locale)}
          </time>{" "}
          · signed in <time dateTime={session.created_at}>{began.format(new Date(session.created_at))}</time>
        </p>
      </div>
      <AskFirst
        verb="Sign out"
        name={session.current ? "of this device" : `${name}, ${session.address ?? "unknown address"}`}
        yes={session.current ? "Yes, sign out here" : "Yes, sign it out"}
        no={session.current ? "Stay signed in" : "Keep it signed in"}
        disabled={locked}
        run={end}
      />
    </li>
  );
}

function DevicesSkeleton() {
  return (
    <div className="skeletons">
      <p className="visually-hidden" role="status">
        Loading your devices
      </p>
      <div className="skeleton skeleton-field" aria-hidden="true" />
      <div className="skeleton skeleton-field" aria-hidden="true" />
    </div>
  );
}
