/** Finding somebody: among the accounts of this server, or by the id that another issuer gave. */
import { useState, type FormEvent } from "react";
import { describe, SessionOver } from "../api";
import { Link, navigate } from "../router";
import { Button } from "../ui/controls";
import { straight } from "../ui/straight";
import { Told } from "../ui/told";
import { toast } from "../ui/toasts";
import { useLocale, useWorkspace } from "../workspace";
import { isSuspended, type Person } from "./figures";
import { Read, useReading } from "./reading";

interface People {
  users: Person[];
  total: number;
  next_cursor: string | null;
}

/** Where the page of *id* is. */
export function placeOf(id: string): string {
  return `/admin/people/${encodeURIComponent(id)}`;
}

export function PeoplePage() {
  const [typed, setTyped] = useState("");
  const [query, setQuery] = useState("");
  const search = (event: FormEvent) => {
    event.preventDefault();
    setQuery(typed.trim());
  };
  return (
    <section className="panel" aria-labelledby="people">
      <h2 id="people">People</h2>
      <form className="panel-row-form" role="search" aria-label="People" onSubmit={search}>
        <input className="input" type="search" maxLength={254} aria-label="Part of an address or a name, or an id" placeholder="Part of an address or a name, or an id" value={typed} onChange={(event) => setTyped(event.target.value)} />
        <Button type="submit" tone="primary" icon="search">
          Search
        </Button>
      </form>
      {query === "" ? null : (
        <p className="field-help">
          Somebody of another issuer is not listed here: <Link href={placeOf(query)}>look at the sessions of “<Told text={query} />”</Link>.
        </p>
      )}
      <Found key={query} query={query} />
    </section>
  );
}

function Found({ query }: { query: string }) {
  const { api } = useWorkspace();
  const [more, setMore] = useState<People[]>([]);
  const [busy, setBusy] = useState(false);
  const page = (cursor: string | null, signal?: AbortSignal) => {
    const asked = new URLSearchParams({ limit: "50" });
    if (query !== "") asked.set("query", query);
    if (cursor !== null) asked.set("cursor", cursor);
    return api.json<People>("GET", `/api/admin/users?${asked}`, undefined, signal);
  };
  const reading = useReading(query, (signal) => page(null, signal));

  const goOn = async (cursor: string) => {
    setBusy(true);
    try {
      const next = await page(cursor);
      setMore((before) => [...before, next]);
    } catch (error) {
      if (!(error instanceof SessionOver)) toast(describe(error), { tone: "error" });
    } finally {
      setBusy(false);
    }
  };

  return (
    <Read reading={reading} what="people">
      {(first) => {
        const users = [first, ...more].flatMap((one) => one.users);
        const cursor = (more.at(-1) ?? first).next_cursor;
        if (users.length === 0) return <p className="field-help">{query === "" ? "Nobody has an account here yet." : <>No account fits “<Told text={query} />”.</>}</p>;
        return (
          <>
            <p className="field-help" role="status">
              {first.total === 1 ? "One account." : `${first.total} accounts.`}
            </p>
            <ul className="rows" aria-label="Accounts">
              {users.map((one) => (
                <Row key={one.user_id} person={one} />
              ))}
            </ul>
            {cursor === null ? null : (
              <div>
                <Button busy={busy} onClick={() => void goOn(cursor)}>
                  Show more
                </Button>
              </div>
            )}
          </>
        );
      }}
    </Read>
  );
}

function Row({ person }: { person: Person }) {
  const day = new Intl.DateTimeFormat(useLocale(), { dateStyle: "medium" });
  const name = person.email ?? (person.is_anonymous ? "A guest" : person.user_id);
  return (
    <li className="panel-row">
      <div>
        <p>
          <Link href={placeOf(person.user_id)}>
            <Told text={name} />
          </Link>{" "}
          {person.name === null ? null : <Told text={person.name} />} <Badges person={person} />
        </p>
        <p className="field-help">
          {person.created_at === null ? null : `Since ${day.format(new Date(person.created_at))} · `}
          {person.last_sign_in_at === null ? "never signed in" : `last signed in ${day.format(new Date(person.last_sign_in_at))}`}
        </p>
      </div>
      <Button icon="right" aria-label={`Open ${straight(name)}`} onClick={() => navigate(placeOf(person.user_id))}>
        Open
      </Button>
    </li>
  );
}

export function Badges({ person }: { person: Person }) {
  return (
    <>
      {person.roles.map((role) => (
        <span key={role} className="badge">
          <Told text={role} />
        </span>
      ))}
      {isSuspended(person, Date.now()) ? <span className="badge badge-bad">Suspended</span> : null}
      {person.deleted_at === null ? null : <span className="badge badge-bad">Deleted</span>}
      {person.is_anonymous ? <span className="badge">Guest</span> : null}
    </>
  );
}
