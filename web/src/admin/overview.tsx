/** How the installation does, as it goes on. */
import { useState } from "react";
import { amountOf } from "../amounts";
import { ApiError } from "../api";
import { Segments } from "../settings/fields";
import { useLocale, useWorkspace } from "../workspace";
import { BarChart } from "./chart";
import { ENDINGS, sum, type Overview, type Window } from "./figures";
import { LiveSign, Problem, Read, useReading } from "./reading";
import { Numbers, ThisServer } from "./this-server";

const WINDOWS: { id: Window; name: string }[] = [
  { id: "hour", name: "Last hour" },
  { id: "day", name: "Last day" },
];
const EVERY_MS: Record<Window, number> = { hour: 4_000, day: 30_000 };

export function OverviewPage() {
  const { api } = useWorkspace();
  const locale = useLocale();
  const [window, setWindow] = useState<Window>("hour");
  const reading = useReading(window, (signal) => api.json<Overview>("GET", `/api/admin/overview?window=${window}`, undefined, signal), EVERY_MS[window]);
  const time = new Intl.DateTimeFormat(locale, { hour: "2-digit", minute: "2-digit", second: "2-digit" });
  const refused = reading.failure instanceof ApiError && reading.againAt === null;
  return (
    <>
      <div className="admin-bar">
        <Segments label="Time" value={window} onChange={setWindow} choices={WINDOWS} locked={false} />
        {refused && reading.value !== null ? <Problem failure={reading.failure} again={reading.again} /> : <LiveSign reading={reading} time={time} />}
      </div>
      <Read reading={reading} what="the figures">
        {(overview) => <Figures overview={overview} />}
      </Read>
    </>
  );
}

function Figures({ overview }: { overview: Overview }) {
  const locale = useLocale();
  const number = (value: number) => new Intl.NumberFormat(locale, { maximumFractionDigits: 1 }).format(value);
  const money = (value: number) => amountOf(String(value), "usd", locale);
  const { buckets } = overview;
  const hourly = overview.window === "hour";
  const span = hourly ? "the last hour" : "the last day";
  const clock = new Intl.DateTimeFormat(locale, { hour: "2-digit", minute: "2-digit", ...(hourly ? {} : { weekday: "short" }) });
  const places = buckets.map((one) => clock.format(new Date(one.at)));
  const shared = { places, by: "From", ends: [places[0] ?? "", "now"] as [string, string] };
  const per = hourly ? "minute" : "quarter of an hour";
  const answers = sum(buckets.map((one) => one.done + one.stopped + one.failed + one.interrupted + one.open));
  const bad = sum(buckets.map((one) => one.failed + one.interrupted));
  return (
    <>
      <dl className="tiles">
        <Tile name="Open now" value={number(overview.running + overview.queued)} more={`${number(overview.running)} being answered, ${number(overview.queued)} waiting`} />
        <Tile name="Answers" value={number(answers)} more={`in ${span}`} />
        <Tile name="Failed" value={answers === 0 ? "–" : new Intl.NumberFormat(locale, { style: "percent", maximumFractionDigits: 1 }).format(bad / answers)} more={`${number(bad)} failed or interrupted`} bad={bad > 0} />
        <Tile name="People" value={number(overview.people)} more={`asked in ${span}`} />
        <Tile name="Tokens" value={number(sum(buckets.map((one) => one.prompt_tokens + one.completion_tokens)))} more={`in ${span}`} />
        <Tile name="Cost" value={money(sum(buckets.map((one) => Number(one.cost))))} more={`in ${span}`} />
      </dl>
      <div className="charts">
        <BarChart {...shared} title={`Answers per ${per}`} format={number} series={ENDINGS.map((one) => ({ name: one.name, tone: `tone-${one.id}`, values: buckets.map((bucket) => bucket[one.id]) }))} />
        <BarChart
          {...shared}
          title={`Tokens per ${per}`}
          format={number}
          series={[
            { name: "In", tone: "tone-in", values: buckets.map((one) => one.prompt_tokens) },
            { name: "Out", tone: "tone-done", values: buckets.map((one) => one.completion_tokens) },
          ]}
        />
        <BarChart {...shared} title={`Cost per ${per}`} format={money} series={[{ name: "Cost", tone: "tone-done", values: buckets.map((one) => Number(one.cost)) }]} />
        <BarChart
          {...shared}
          title={`People per ${per}`}
          format={number}
          summary={`${number(overview.people)} asked something in ${span}.`}
          series={[{ name: "People", tone: "tone-done", values: buckets.map((one) => one.people) }]}
        />
      </div>
      <div className="charts">
        <section className="panel" aria-labelledby="errors">
          <h2 id="errors">Errors</h2>
          {overview.errors.length === 0 ? (
            <p className="field-help">No answer ended with an error in {span}.</p>
          ) : (
            <Numbers caption="Answers that ended with each code" what="Code" rows={overview.errors.map((one) => [one.code, number(one.answers)])} unit="Answers" />
          )}
        </section>
        <section className="panel" aria-labelledby="queue">
          <h2 id="queue">Mail, webhooks and other jobs</h2>
          {overview.jobs.length === 0 ? (
            <p className="field-help">Nothing waits to be done.</p>
          ) : (
            <>
              <Numbers caption="Jobs of each queue" what="Queue" unit="Jobs" rows={overview.jobs.map((one) => [`${one.queue}: ${one.state}`, number(one.jobs)])} />
              <p className="field-help">{overview.oldest_job_seconds > 0 ? `The oldest is due for ${number(Math.round(overview.oldest_job_seconds))} s.` : "None is late."}</p>
            </>
          )}
        </section>
      </div>
      <ThisServer figures={overview.this_server} number={number} />
    </>
  );
}

function Tile({ name, value, more, bad = false }: { name: string; value: string; more: string; bad?: boolean }) {
  return (
    <div className={bad ? "tile tile-bad" : "tile"}>
      <dt>{name}</dt>
      <dd className="tile-value">{value}</dd>
      <dd className="field-help">{more}</dd>
    </div>
  );
}
