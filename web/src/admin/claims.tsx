/** How many session tokens of an older shape still come, and when their fallbacks can go. */
import { useLocale, useWorkspace } from "../workspace";
import { BarChart } from "./chart";
import { sum, type Drain, type VersionDrain } from "./figures";
import { Read, useReading } from "./reading";

const EVERY_MS = 30_000;
const HOURS = 24;

export function ClaimsPage() {
  const { api } = useWorkspace();
  const reading = useReading("claims", (signal) => api.json<Drain>("GET", "/api/admin/claims", undefined, signal), EVERY_MS);
  return (
    <Read reading={reading} what="the versions">
      {(drain) => <Versions drain={drain} />}
    </Read>
  );
}

function Versions({ drain }: { drain: Drain }) {
  const locale = useLocale();
  const moment = new Intl.DateTimeFormat(locale, { dateStyle: "medium", timeStyle: "short" });
  const number = (value: number) => new Intl.NumberFormat(locale).format(value);
  const old = drain.versions.filter((one) => one.state === "old");
  return (
    <>
      <section className="panel" aria-labelledby="versions">
        <h2 id="versions">Session tokens by the version of their claims</h2>
        <p>{advice(drain, moment)}</p>
        <div className="used-scroll" tabIndex={0} role="region" aria-label="Table of the versions">
          <table className="used">
            <caption className="visually-hidden">Tokens of each version, in thirty days</caption>
            <thead>
              <tr>
                <th scope="col">Version</th>
                <th scope="col">Last day</th>
                <th scope="col">30 days</th>
                <th scope="col">Look-ups</th>
                <th scope="col">Made</th>
                <th scope="col">Ends</th>
              </tr>
            </thead>
            <tbody>
              {drain.versions.flatMap((one) => [
                <tr key={one.version}>
                  <th scope="row">
                    {one.version} {one.state}
                  </th>
                  <td>{number(sum(one.hours.map((hour) => hour.tokens)))}</td>
                  <td>{number(one.tokens)}</td>
                  <td>{number(one.reads)}</td>
                  <td>{number(one.issued)}</td>
                  <td>{one.ends_at === null ? "–" : moment.format(new Date(one.ends_at))}</td>
                </tr>,
                ...one.claims.map((claim) => (
                  <tr key={`${one.version} ${claim.claim}`}>
                    <th scope="row">lacked {claim.claim}</th>
                    <td />
                    <td>{number(claim.tokens)}</td>
                    <td>{number(claim.reads)}</td>
                    <td />
                    <td />
                  </tr>
                )),
              ])}
            </tbody>
          </table>
        </div>
        <p className="field-help">The same numbers as those of chatkeep claims and of the metrics: tokens that had to be upgraded, on all servers together, a few seconds late.</p>
      </section>
      {old.length === 0 ? null : <OldByHour old={old} number={number} />}
    </>
  );
}

function OldByHour({ old, number }: { old: VersionDrain[]; number: (value: number) => string }) {
  const clock = new Intl.DateTimeFormat(useLocale(), { weekday: "short", hour: "2-digit", minute: "2-digit" });
  const newest = Math.floor(Date.now() / 3_600_000);
  const hours = Array.from({ length: HOURS }, (_, place) => (newest - HOURS + 1 + place) * 3_600_000);
  const places = hours.map((hour) => clock.format(hour));
  return (
    <BarChart
      title="Old tokens by the hour"
      by="From"
      places={places}
      ends={[places[0] ?? "", "now"]}
      format={number}
      series={old.map((one, place) => ({
        name: `Version ${one.version}`,
        tone: ["tone-done", "tone-in", "tone-interrupted", "tone-stopped"][place % 4] ?? "tone-done",
        values: hours.map((hour) => sum(one.hours.filter((count) => Date.parse(count.hour) === hour).map((count) => count.tokens))),
      }))}
    />
  );
}

function advice(drain: Drain, moment: Intl.DateTimeFormat): string {
  if (drain.fallback_ends_at === null) return "Nothing is known of old tokens.";
  const end = new Date(drain.fallback_ends_at);
  if (end.getTime() > Date.now()) return `Versions before ${drain.newest_version} can be deleted from the declaration after ${moment.format(end)}.`;
  return `Versions before ${drain.newest_version} can be deleted from the declaration now: the last token of them ended ${moment.format(end)}.`;
}
