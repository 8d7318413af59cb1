/** How pages of the console read: once, or again and again while somebody looks. */
import { useEffect, useState, type ReactNode } from "react";
import { ApiError, describe, SessionOver } from "../api";
import { useAuth } from "../auth";
import { navigate } from "../router";
import { Button, FullPage, Notice } from "../ui/controls";
import { useLatest, useSecondsUntil } from "../ui/hooks";
import { pauseAfter } from "./figures";

export interface Reading<T> {
  value: T | null;
  failure: unknown;
  /** When *value* was read, in ms since 1970. */
  readAt: number | null;
  /** When it is tried again after a failure. */
  againAt: number | null;
  again: () => void;
}

/**
 * Read with *read* now, again when *key* changes, and every *everyMs* while the page is seen.
 * What was read stays while it cannot be read anew, with `failure` beside it.
 */
export function useReading<T>(key: string, read: (signal: AbortSignal) => Promise<T>, everyMs: number | null = null): Reading<T> {
  const [state, setState] = useState<Omit<Reading<T>, "again"> & { key: string }>({ key, value: null, failure: null, readAt: null, againAt: null });
  const [turn, setTurn] = useState(0);
  const latest = useLatest(read);

  useEffect(() => {
    const left = new AbortController();
    let timer: ReturnType<typeof setTimeout> | undefined;
    let failures = 0;
    let running = false;

    const go = async () => {
      if (running || left.signal.aborted) return;
      running = true;
      clearTimeout(timer);
      try {
        const value = await latest(left.signal);
        if (left.signal.aborted) return;
        failures = 0;
        setState({ key, value, failure: null, readAt: Date.now(), againAt: null });
        plan(everyMs);
      } catch (failure) {
        if (left.signal.aborted || failure instanceof SessionOver) return;
        failures += 1;
        // What is refused is refused the next time, too; what is away may come back.
        const refused = failure instanceof ApiError && failure.status < 500 && failure.status !== 429;
        const asked = failure instanceof ApiError && failure.retryAfterS !== null ? failure.retryAfterS * 1000 : 0;
        const pause = everyMs === null || refused ? null : Math.max(asked, pauseAfter(failures, everyMs));
        setState((before) => ({
          // Who may not see it any more is shown nothing that was read before.
          ...(before.key === key && !isForbidden(failure) ? before : { key, value: null, readAt: null }),
          failure,
          againAt: pause === null ? null : Date.now() + pause,
        }));
        plan(pause);
      } finally {
        running = false;
      }
    };
    const plan = (pause: number | null) => {
      if (pause !== null && document.visibilityState === "visible") timer = setTimeout(() => void go(), pause);
    };
    const back = () => {
      if (everyMs === null) return;
      clearTimeout(timer);
      if (document.visibilityState === "visible") void go();
    };
    void go();
    addEventListener("online", back);
    document.addEventListener("visibilitychange", back);
    return () => {
      left.abort();
      clearTimeout(timer);
      removeEventListener("online", back);
      document.removeEventListener("visibilitychange", back);
    };
  }, [key, turn, everyMs, latest]);

  const { key: readKey, ...shown } = state;
  const again = () => setTurn((before) => before + 1);
  return readKey === key ? { ...shown, again } : { value: null, failure: null, readAt: null, againAt: null, again };
}

function isForbidden(failure: unknown): boolean {
  return failure instanceof ApiError && failure.code === "forbidden";
}

export function Forbidden() {
  return (
    <FullPage title="Only for administrators" actions={<Button tone="primary" onClick={() => navigate("/")}>Go to your chats</Button>}>
      <p>Your account has none of the roles that may see this. Whoever runs this server can give you one.</p>
    </FullPage>
  );
}

/** What stands in the way, and the way out: to sign in again, to go back, or to try once more. */
export function Problem({ failure, again }: { failure: unknown; again: () => void }) {
  const { signInAgain } = useAuth();
  if (isForbidden(failure)) return <Forbidden />;
  if (failure instanceof ApiError && failure.code === "step_up_required") {
    return (
      <Notice tone="error" actions={<Button onClick={() => void signInAgain()}>Sign in again</Button>}>
        {failure.message}
      </Notice>
    );
  }
  return (
    <Notice tone="error" actions={<Button icon="refresh" onClick={again}>Try again</Button>}>
      {describe(failure)}
    </Notice>
  );
}

/** Whether what is shown is as of now, and what to do when it is not. */
export function LiveSign({ reading, time }: { reading: Reading<unknown>; time: Intl.DateTimeFormat }) {
  const seconds = useSecondsUntil(reading.againAt);
  if (reading.readAt === null) return null;
  const read = time.format(reading.readAt);
  if (reading.failure === null) {
    return (
      <p className="live-sign">
        <span className="live-dot" aria-hidden="true" /> Live, as of <time dateTime={new Date(reading.readAt).toISOString()}>{read}</time>
      </p>
    );
  }
  return (
    <Notice tone="warning" actions={<Button icon="refresh" onClick={reading.again}>Try now</Button>}>
      <strong>Disconnected.</strong> {describe(reading.failure)} This is as of {read}.
      {/* Seen, and not said aloud each second. */}
      <span aria-hidden="true">{seconds > 0 ? ` Next try in ${seconds} s.` : ""}</span>
    </Notice>
  );
}

export function Loading({ what }: { what: string }) {
  return (
    <div className="skeletons" aria-busy="true">
      <p className="visually-hidden" role="status">
        Loading {what}
      </p>
      <div className="skeleton skeleton-field" aria-hidden="true" />
      <div className="skeleton skeleton-field" aria-hidden="true" />
    </div>
  );
}

/** *reading*'s value, once it is there; until then what is loading, or what stands in the way. */
export function Read<T>({ reading, what, children }: { reading: Reading<T>; what: string; children: (value: T) => ReactNode }) {
  if (reading.value !== null) return children(reading.value);
  return reading.failure === null ? <Loading what={what} /> : <Problem failure={reading.failure} again={reading.again} />;
}
