/** What one process knows of itself: since it began, and while somebody looks. */
import { useEffect, useState } from "react";
import { useLocale } from "../workspace";
import { BarChart } from "./chart";
import { begunBetween, within, withSample, type Sample, type ServerFigures } from "./figures";

export function Numbers({ caption, what, unit, rows }: { caption: string; what: string; unit: string; rows: [string, string][] }) {
  return (
    <table className="used">
      <caption className="visually-hidden">{caption}</caption>
      <thead>
        <tr>
          <th scope="col">{what}</th>
          <th scope="col">{unit}</th>
        </tr>
      </thead>
      <tbody>
        {rows.map(([name, value]) => (
          <tr key={name}>
            <th scope="row">{name}</th>
            <td>{value}</td>
          </tr>
        ))}
      </tbody>
    </table>
  );
}

interface ThisServerProps {
  figures: ServerFigures;
  number: (value: number) => string;
}

/** The next answer may come from another process: each is remembered for itself. */
export function ThisServer({ figures, number }: ThisServerProps) {
  const locale = useLocale();
  const name = `${figures.host}, process ${figures.process}`;
  const [seen, setSeen] = useState<Record<string, Sample[]>>({});
  const key = `${name} ${figures.began_at}`;
  useEffect(() => setSeen((before) => ({ ...before, [key]: withSample(before[key] ?? [], figures, Date.now()) })), [key, figures]);
  const samples = seen[key] ?? [];

  const { pool, requests } = figures;
  const { bounds, counts } = figures.first_piece;
  const busy = pool.size - pool.idle;
  const began = new Intl.DateTimeFormat(locale, { dateStyle: "medium", timeStyle: "short" }).format(new Date(figures.began_at));
  const clock = new Intl.DateTimeFormat(locale, { hour: "2-digit", minute: "2-digit", second: "2-digit" });
  const last = bounds.at(-1) ?? 0;
  const seconds = (value: number | null) => (value === null ? "no answer yet" : value === Infinity ? `more than ${last.toLocaleString(locale)} s` : `${value.toLocaleString(locale)} s`);
  const places = samples.map((one) => clock.format(one.at));
  const watched = { places, by: "Until", ends: [places[0] ?? "", "now"] as [string, string], format: number };
  const begun = begunBetween(samples, bounds);
  return (
    <section className="admin-part" aria-labelledby="this-server">
      <h2 id="this-server">
        The server that answered you <span className="field-help">{name}, since {began}</span>
      </h2>
      <p className="field-help">Other servers and processes have figures of their own; Prometheus adds them up.</p>
      <div className="charts">
        <BarChart
          title="Until the first piece of an answer, since it began"
          by="Seconds"
          places={[...bounds.map((one) => `up to ${one.toLocaleString(locale)} s`), `more than ${last.toLocaleString(locale)} s`]}
          format={number}
          summary={`Half within ${seconds(within(counts, bounds, 0.5))}, 95 % within ${seconds(within(counts, bounds, 0.95))}.`}
          series={[{ name: "Answers", tone: "tone-done", values: counts }]}
          ends={[`${bounds[0]?.toLocaleString(locale)} s`, `over ${last.toLocaleString(locale)} s`]}
        />
        <BarChart
          {...watched}
          title="Until the first piece, while you look"
          series={[
            { name: "Up to 1 s", tone: "tone-done", values: begun.map((one) => one.quick) },
            { name: "Up to 5 s", tone: "tone-interrupted", values: begun.map((one) => one.slow) },
            { name: "Longer", tone: "tone-failed", values: begun.map((one) => one.slower) },
          ]}
        />
        <BarChart
          {...watched}
          title="Connections to the database, while you look"
          summary={`${busy} of ${pool.most} busy now, ${pool.waiting === 0 ? "nobody waits" : `${pool.waiting} wait`} for one.`}
          series={[
            { name: "Busy", tone: "tone-done", values: samples.map((one) => one.busy) },
            { name: "Waiting for one", tone: "tone-failed", values: samples.map((one) => one.waiting) },
          ]}
          legend={false}
        />
        <section className="panel" aria-labelledby="requests">
          <h2 id="requests">Requests, since it began</h2>
          <p className="field-help">{figures.open_streams === 1 ? "One stream is" : `${number(figures.open_streams)} streams are`} open: answers that are read, and pages that hear when their session ends.</p>
          <Numbers
            caption="Requests by status"
            what="Requests"
            unit="So far"
            rows={[
              ["Answered (2xx)", number(requests["2xx"] ?? 0)],
              ["Redirected or unchanged (3xx)", number(requests["3xx"] ?? 0)],
              ["Refused (4xx)", number(requests["4xx"] ?? 0)],
              ["Failed (5xx)", number(requests["5xx"] ?? 0)],
              ["Left before an answer", number(requests.none ?? 0)],
            ]}
          />
        </section>
      </div>
    </section>
  );
}
