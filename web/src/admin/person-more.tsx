/** What a person has used and may use, and the keys that their programs show. */
import { amountOf, nameOf } from "../amounts";
import { AskFirst } from "../ui/controls";
import { Icon } from "../ui/icons";
import { straight } from "../ui/straight";
import { Told } from "../ui/told";
import { rowsOfDays, UsedTable } from "../used-table";
import type { ApiKey, Used } from "../wire";
import { useLocale, useWorkspace } from "../workspace";
import { Read, useReading, type Reading } from "./reading";

interface Usage {
  days: number;
  by_day: (Used & { day: string })[];
  limits: { name: string; limit: string | null }[];
}

/** A key as administrators see it. */
export type PersonKey = Omit<ApiKey, "reason">;

export function PersonUsage({ at }: { at: string }) {
  const { api } = useWorkspace();
  const reading = useReading(at, (signal) => api.json<Usage>("GET", `${at}/usage`, undefined, signal));
  return (
    <section className="panel" aria-labelledby="person-usage">
      <h2 id="person-usage">Usage</h2>
      <Read reading={reading} what="usage">
        {(usage) => <UsageShown usage={usage} />}
      </Read>
    </section>
  );
}

function UsageShown({ usage }: { usage: Usage }) {
  const locale = useLocale();
  const unit = (name: string) => (name.startsWith("cost") ? "usd" : "tokens");
  return (
    <>
      {usage.limits.length === 0 ? (
        <p className="field-help">
          They may use what everybody or their roles may; <code>chatkeep budgets set</code> gives them limits of their own.
        </p>
      ) : (
        <dl className="facts">
          {usage.limits.flatMap((one) => [
            <dt key={`${one.name} name`}>{nameOf(one.name)}</dt>,
            <dd key={one.name}>{one.limit === null ? "no limit" : `${amountOf(one.limit, unit(one.name), locale)} at most`}</dd>,
          ])}
        </dl>
      )}
      {usage.by_day.length === 0 ? (
        <p className="field-help">Nothing in the last {usage.days} days.</p>
      ) : (
        <UsedTable caption={`By day, the last ${usage.days} days`} of="Day" rows={rowsOfDays(usage.by_day)} />
      )}
    </>
  );
}

interface PersonKeysProps {
  reading: Reading<PersonKey[]>;
  busy: string | null;
  revoke: (key: PersonKey) => Promise<void>;
}

export function PersonKeys({ reading, busy, revoke }: PersonKeysProps) {
  const day = new Intl.DateTimeFormat(useLocale(), { dateStyle: "medium" });
  const on = (value: string) => day.format(new Date(value));
  const isGood = (one: PersonKey) => one.ended_at === null && Date.parse(one.expires_at) > Date.now();
  return (
    <section className="panel" aria-labelledby="person-keys">
      <h2 id="person-keys">API keys</h2>
      <Read reading={reading} what="API keys">
        {(keys) =>
          keys.length === 0 ? (
            <p className="field-help">They have no API keys.</p>
          ) : (
            <ul className="rows" aria-label="API keys">
              {keys.map((one) => (
                <li key={one.id} className={isGood(one) ? "panel-row" : "panel-row is-ended"}>
                  <Icon name="key" size={22} />
                  <div>
                    <p>
                      <Told text={one.name} /> <span className="key-prefix">{one.prefix}…</span>
                    </p>
                    <p className="field-help">
                      {one.scopes.join(", ")} · made {on(one.created_at)} · {one.last_used_at === null ? "never used" : `last used ${on(one.last_used_at)}`} ·{" "}
                      {one.ended_at === null ? `${isGood(one) ? "expires" : "expired"} ${on(one.expires_at)}` : `ended ${on(one.ended_at)}`}
                    </p>
                  </div>
                  {isGood(one) ? (
                    <AskFirst verb="Revoke" name={straight(one.name)} disabled={busy !== null} run={() => revoke(one)} />
                  ) : null}
                </li>
              ))}
            </ul>
          )
        }
      </Read>
    </section>
  );
}
