/** Keys with which a person's own programs act for them: made, shown once, listed, revoked. */
import { useEffect, useRef, useState, type FormEvent } from "react";
import { ApiError, describe, SessionOver } from "../api";
import { useAuth } from "../auth";
import { CopyButton } from "../chat/copy-button";
import { announce } from "../ui/announce";
import { AskFirst, Button, DaysSelect, Notice } from "../ui/controls";
import { Icon } from "../ui/icons";
import { useLatest } from "../ui/hooks";
import { straight } from "../ui/straight";
import { Told } from "../ui/told";
import { toast } from "../ui/toasts";
import { useLocale, useWorkspace } from "../workspace";
import type { ApiKey, ApiKeyList, NewApiKey } from "../wire";

const DAYS = [7, 30, 90, 180, 365];
const USUAL_DAYS = 90;
const USUAL_SCOPES = ["chat", "models:read"];

export function KeysTab() {
  const { api, user } = useWorkspace();
  const [list, setList] = useState<ApiKeyList | null>(null);
  const [failure, setFailure] = useState<string | null>(null);
  const [made, setMade] = useState<NewApiKey | null>(null);
  const [making, setMaking] = useState(false);
  const again = useRef<HTMLButtonElement>(null);

  const load = useLatest(async () => {
    try {
      setList(await api.json<ApiKeyList>("GET", "/api/keys"));
      setFailure(null);
    } catch (error) {
      if (!(error instanceof SessionOver)) setFailure(describe(error));
    }
  });
  useEffect(() => void load(), [load]);

  const close = () => {
    setMaking(false);
    requestAnimationFrame(() => again.current?.focus());
  };
  const living = list?.keys.filter((one) => one.ended_at === null).length ?? 0;
  return (
    <section className="panel" aria-labelledby="api-keys" aria-busy={list === null && failure === null}>
      <h2 id="api-keys">API keys</h2>
      <p className="field-help">
        A key lets a program of yours act as you, within what you allow it, until it expires or you revoke it. It works with every client of the OpenAI API, at <code>{`${location.origin}/v1`}</code>.
      </p>
      {failure === null ? null : (
        <Notice tone="error" actions={<Button icon="refresh" onClick={() => void load()}>Try again</Button>}>
          Your keys could not be loaded. {failure}
        </Notice>
      )}
      {made ? (
        <Made
          made={made}
          done={() => {
            setMade(null);
            close();
          }}
        />
      ) : null}
      {list === null ? (failure === null ? <KeysSkeleton /> : null) : <Keys list={list} changed={load} />}
      {list === null || user.is_anonymous ? null : making && !made ? (
        <MakeForm
          list={list}
          cancel={close}
          done={(key) => {
            setMade(key);
            void load();
          }}
        />
      ) : made || living >= list.at_most ? null : (
        <div>
          <Button ref={again} icon="plus" onClick={() => setMaking(true)}>
            New key
          </Button>
        </div>
      )}
      {list !== null && living >= list.at_most ? (
        <p className="field-help">{list.at_most === 0 ? "Whoever runs this server allows no keys." : `You have ${list.at_most} keys, as many as you may. Revoke one to make another.`}</p>
      ) : null}
      {user.is_anonymous ? <p className="field-help">Keys are for accounts: give yours an e-mail address first.</p> : null}
    </section>
  );
}

function Keys({ list, changed }: { list: ApiKeyList; changed: () => Promise<void> }) {
  if (list.keys.length === 0) return <p className="field-help">You have no keys yet.</p>;
  return (
    <ul className="rows" aria-label="API keys">
      {list.keys.map((one) => (
        <KeyRow key={one.id} item={one} changed={changed} />
      ))}
    </ul>
  );
}

const REASONS: Record<string, string> = {
  revoked: "revoked",
  revoked_by_admin: "revoked by whoever runs this server",
  everything_ended: "ended with all your sessions",
  everybody_out: "ended for everybody",
};

function KeyRow({ item, changed }: { item: ApiKey; changed: () => Promise<void> }) {
  const { api } = useWorkspace();
  const locale = useLocale();
  const day = new Intl.DateTimeFormat(locale, { dateStyle: "medium" });
  const moment = new Intl.DateTimeFormat(locale, { dateStyle: "medium", timeStyle: "short" });
  const at = (text: string, format = day) => <time dateTime={text}>{format.format(new Date(text))}</time>;

  const revoke = async () => {
    try {
      await api.json("DELETE", `/api/keys/${item.id}`);
      announce(`${straight(item.name)} is revoked.`);
    } catch (error) {
      if (error instanceof SessionOver) return;
      // It had ended already: the list shows it.
      const gone = error instanceof ApiError && error.status === 404;
      if (!gone) toast(`The key was not revoked. ${describe(error)}`, { tone: "error" });
    }
    await changed();
  };
  return (
    <li className={item.ended_at === null ? "panel-row" : "panel-row is-ended"}>
      <Icon name="key" size={22} />
      <div>
        <p>
          <Told text={item.name} /> <code className="key-prefix">{item.prefix}…</code>
        </p>
        <p className="field-help">{item.scopes.join(", ")}</p>
        <p className="field-help">
          Made {at(item.created_at)} · {item.last_used_at ? <>last used {at(item.last_used_at, moment)}</> : "never used"} ·{" "}
          {item.ended_at === null ? (
            <>expires {at(item.expires_at)}</>
          ) : (
            <>
              {REASONS[item.reason ?? ""] ?? item.reason ?? "expired"} {at(item.ended_at)}
            </>
          )}
        </p>
      </div>
      {item.ended_at === null ? <AskFirst verb="Revoke" name={straight(item.name)} run={revoke} /> : null}
    </li>
  );
}

function MakeForm({ list, cancel, done }: { list: ApiKeyList; cancel: () => void; done: (made: NewApiKey) => void }) {
  const { api } = useWorkspace();
  const { signInAgain } = useAuth();
  const [name, setName] = useState("");
  const [scopes, setScopes] = useState(USUAL_SCOPES);
  const choices = [...new Set([...DAYS.filter((one) => one < list.max_days), list.max_days])];
  const [days, setDays] = useState(Math.min(USUAL_DAYS, list.max_days));
  const [busy, setBusy] = useState(false);
  const [problem, setProblem] = useState<{ text: string; late: boolean } | null>(null);
  const box = useRef<HTMLInputElement>(null);

  useEffect(() => box.current?.focus(), []);

  const submit = async (event: FormEvent) => {
    event.preventDefault();
    setBusy(true);
    setProblem(null);
    try {
      done(await api.json<NewApiKey>("POST", "/api/keys", { name: name.trim(), scopes, expires_in_days: days }));
    } catch (error) {
      if (error instanceof SessionOver) return;
      const late = error instanceof ApiError && error.code === "step_up_required";
      setProblem({ text: late ? "A key can do much in your name, so this asks for a fresh sign-in." : describe(error), late });
    } finally {
      setBusy(false);
    }
  };
  const toggle = (scope: string) => setScopes((before) => (before.includes(scope) ? before.filter((one) => one !== scope) : [...before, scope]));

  return (
    <form className="panel-form" aria-label="New API key" onSubmit={(event) => void submit(event)} onKeyDown={(event) => event.key === "Escape" && cancel()}>
      {problem ? (
        <Notice tone="error" actions={problem.late ? <Button onClick={() => void signInAgain()}>Sign in again</Button> : null}>
          {problem.text}
        </Notice>
      ) : null}
      <label className="field">
        <span className="field-label">Name</span>
        <input ref={box} className="input" type="text" required maxLength={80} autoComplete="off" placeholder="My laptop" value={name} onChange={(event) => setName(event.target.value)} />
      </label>
      <fieldset className="field checks">
        <legend className="field-label">What it may do</legend>
        {list.scopes.map((scope) => (
          <label key={scope.name} className="check">
            <input type="checkbox" aria-label={scope.name} aria-describedby={`scope-${scope.name}`} checked={scopes.includes(scope.name)} onChange={() => toggle(scope.name)} />
            <span>
              <code>{scope.name}</code> <span className="field-help" id={`scope-${scope.name}`}>{scope.description}</span>
            </span>
          </label>
        ))}
      </fieldset>
      <label className="field">
        <span className="field-label">Expires after</span>
        <DaysSelect value={days} choices={choices} onChange={setDays} />
      </label>
      <div className="row">
        <Button tone="primary" type="submit" busy={busy} disabled={name.trim() === "" || scopes.length === 0}>
          Make key
        </Button>
        <Button onClick={cancel}>Cancel</Button>
      </div>
    </form>
  );
}

/** The one moment in which a key can be seen. */
function Made({ made, done }: { made: NewApiKey; done: () => void }) {
  const heading = useRef<HTMLHeadingElement>(null);

  useEffect(() => heading.current?.focus(), []);

  return (
    <div className="panel-form" role="group" aria-labelledby="new-key">
      <h3 id="new-key" ref={heading} tabIndex={-1}>
        <Told text={made.name} />
      </h3>
      <Notice tone="warning">Copy the key now: it is shown only this once, and nobody can find it again.</Notice>
      <div className="key-once">
        <code className="secret" data-testid="new-key">
          {made.key}
        </code>
        <CopyButton text={made.key} label="Copy key" />
      </div>
      <div>
        <Button tone="primary" onClick={done}>
          I have kept it
        </Button>
      </div>
    </div>
  );
}

function KeysSkeleton() {
  return (
    <div className="skeletons">
      <p className="visually-hidden" role="status">
        Loading your keys
      </p>
      <div className="skeleton skeleton-field" aria-hidden="true" />
    </div>
  );
}
