/** The audit log: what happened, to whom, by whom, and how far nobody can have changed it since. */
import { useState, type FormEvent } from "react";
import { describe, SessionOver } from "../api";
import { written } from "../chat/written";
import { Link } from "../router";
import { Button } from "../ui/controls";
import { saveFile } from "../ui/hooks";
import { Told } from "../ui/told";
import { toast } from "../ui/toasts";
import { useLocale, useWorkspace } from "../workspace";
import type { AuditEntry, Overview } from "./figures";
import { placeOf } from "./people";
import { Read, useReading } from "./reading";

interface Entries {
  entries: AuditEntry[];
  next_before: number | null;
}

interface Filter {
  user_id: string;
  action: string;
  outcome: string;
  since: string;
  until: string;
}

/** The filter as the routes take it; moments are those of the clock here. */
function asked(filter: Filter): URLSearchParams {
  const said = new URLSearchParams();
  for (const name of ["user_id", "action", "outcome"] as const) if (filter[name].trim() !== "") said.set(name, filter[name].trim());
  for (const name of ["since", "until"] as const) if (filter[name] !== "") said.set(name, new Date(filter[name]).toISOString());
  return said;
}

export function AuditPage() {
  const { api } = useWorkspace();
  const [filter, setFilter] = useState<Filter>(() => ({ user_id: new URL(location.href).searchParams.get("user") ?? "", action: "", outcome: "", since: "", until: "" }));
  const [wanted, setWanted] = useState(() => asked(filter).toString());
  const [turn, setTurn] = useState(0);
  const [saving, setSaving] = useState(false);
  const set = (name: keyof Filter) => (event: { target: { value: string } }) => setFilter({ ...filter, [name]: event.target.value });
  const search = (event: FormEvent) => {
    event.preventDefault();
    setWanted(asked(filter).toString());
    setTurn(turn + 1);
  };
  const download = async () => {
    setSaving(true);
    try {
      const response = await api.fetch(`/api/admin/audit/export?${wanted}`);
      saveFile(await response.blob(), "audit.ndjson");
    } catch (error) {
      if (!(error instanceof SessionOver)) toast(`The log was not exported. ${describe(error)}`, { tone: "error" });
    } finally {
      setSaving(false);
    }
  };
  return (
    <section className="panel" aria-labelledby="audit">
      <h2 id="audit">Audit log</h2>
      <Chain />
      <form className="audit-filter" onSubmit={search}>
        <label className="field">
          <span className="field-label">Whom it is about</span>
          <input className="input" value={filter.user_id} maxLength={255} placeholder="An id" onChange={set("user_id")} />
        </label>
        <label className="field">
          <span className="field-label">Action</span>
          <input className="input" value={filter.action} maxLength={255} placeholder="Such as user.banned" autoCapitalize="none" spellCheck={false} onChange={set("action")} />
        </label>
        <label className="field">
          <span className="field-label">Outcome</span>
          <span className="select">
            <select className="input" value={filter.outcome} onChange={set("outcome")}>
              <option value="">Either</option>
              <option value="succeeded">Succeeded</option>
              <option value="refused">Refused</option>
            </select>
          </span>
        </label>
        <label className="field">
          <span className="field-label">From</span>
          <input className="input" type="datetime-local" value={filter.since} onChange={set("since")} />
        </label>
        <label className="field">
          <span className="field-label">Before</span>
          <input className="input" type="datetime-local" value={filter.until} onChange={set("until")} />
        </label>
        <div className="row">
          <Button type="submit" tone="primary" icon="search">
            Show
          </Button>
          <Button icon="download" busy={saving} onClick={() => void download()}>
            Export
          </Button>
        </div>
      </form>
      <Found key={`${turn} ${wanted}`} wanted={wanted} />
    </section>
  );
}

/** What its head says; that nobody changed an entry is found by walking all of it. */
function Chain() {
  const { api } = useWorkspace();
  const moment = new Intl.DateTimeFormat(useLocale(), { dateStyle: "medium", timeStyle: "medium" });
  const reading = useReading("chain", async (signal) => (await api.json<Overview>("GET", "/api/admin/overview", undefined, signal)).audit_chain);
  if (reading.value === null) return null;
  const { entries, sealed_at } = reading.value;
  return (
    <p className="field-help">
      {sealed_at === null ? "No entry is linked yet." : `${entries} entries are linked, and were sealed ${moment.format(new Date(sealed_at))}.`} <code>chatkeep audit verify</code> checks every link.
    </p>
  );
}

function Found({ wanted }: { wanted: string }) {
  const { api } = useWorkspace();
  const [more, setMore] = useState<Entries[]>([]);
  const [busy, setBusy] = useState(false);
  const page = (before: number | null, signal?: AbortSignal) => {
    const query = new URLSearchParams(wanted);
    query.set("limit", "50");
    if (before !== null) query.set("before", String(before));
    return api.json<Entries>("GET", `/api/admin/audit?${query}`, undefined, signal);
  };
  const reading = useReading(wanted, (signal) => page(null, signal));
  const goOn = async (before: number) => {
    setBusy(true);
    try {
      const next = await page(before);
      setMore((read) => [...read, next]);
    } catch (error) {
      if (!(error instanceof SessionOver)) toast(describe(error), { tone: "error" });
    } finally {
      setBusy(false);
    }
  };
  return (
    <Read reading={reading} what="the log">
      {(first) => {
        const entries = [first, ...more].flatMap((one) => one.entries);
        const before = (more.at(-1) ?? first).next_before;
        if (entries.length === 0) return <p className="field-help">{wanted === "" ? "Nothing happened yet." : "Nothing fits."}</p>;
        return (
          <>
            <ol className="rows" aria-label="Entries, the newest first">
              {entries.map((one) => (
                <Entry key={one.number} entry={one} />
              ))}
            </ol>
            {before === null ? null : (
              <div>
                <Button busy={busy} onClick={() => void goOn(before)}>
                  Show older ones
                </Button>
              </div>
            )}
          </>
        );
      }}
    </Read>
  );
}

function Entry({ entry }: { entry: AuditEntry }) {
  const moment = new Intl.DateTimeFormat(useLocale(), { dateStyle: "short", timeStyle: "medium" });
  const details = Object.keys(entry.details).length > 0 ? written(JSON.stringify(entry.details)) : null;
  return (
    <li className="audit-entry">
      <p>
        <strong>{entry.action}</strong> {entry.outcome === "refused" ? <span className="badge badge-bad">Refused</span> : null} {entry.reason === null ? null : <Told text={entry.reason} />}
      </p>
      <p className="field-help">
        <time dateTime={entry.at}>{moment.format(new Date(entry.at))}</time> · entry {entry.number}
        {entry.user_id === null ? null : (
          <>
            {" "}
            · about <Link href={placeOf(entry.user_id)}>
              <Told text={entry.user_id} />
            </Link>
          </>
        )}
        {entry.actor === null || entry.actor === entry.user_id ? null : (
          <>
            {" "}
            · by <Told text={entry.actor} />
          </>
        )}
        {entry.address === null ? null : ` · from ${entry.address}`}
        {entry.device === null ? null : (
          <>
            {" "}
            · <Told text={entry.device} />
          </>
        )}
      </p>
      {details === null ? null : <code className="audit-details">{details}</code>}
    </li>
  );
}
