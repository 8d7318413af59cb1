/** What is left of budgets, and what was used by day and by model. */
import { useEffect, useId, useState } from "react";
import { amountOf, nameOf, NEARLY, resetOf, shareOf } from "../amounts";
import { describe, SessionOver } from "../api";
import { Button, Notice } from "../ui/controls";
import { useLatest } from "../ui/hooks";
import { rowsOfDays, UsedTable } from "../used-table";
import { useLocale, useWorkspace } from "../workspace";
import type { Budget, Used, UsageReport } from "../wire";

export function UsageTab() {
  const { api, budgets } = useWorkspace();
  const [report, setReport] = useState<UsageReport | null>(null);
  const [failure, setFailure] = useState<string | null>(null);

  const load = useLatest(async () => {
    try {
      const read = await api.json<UsageReport>("GET", "/api/usage");
      setReport(read);
      budgets.set(read.budgets);
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
    document.addEventListener("visibilitychange", back);
    return () => document.removeEventListener("visibilitychange", back);
  }, [load]);

  if (report === null) {
    return failure === null ? (
      <UsageSkeleton />
    ) : (
      <Notice tone="error" actions={<Button icon="refresh" onClick={() => void load()}>Try again</Button>}>
        Your usage could not be loaded. {failure}
      </Notice>
    );
  }
  return (
    <div className="settings-panels">
      <section className="panel" aria-labelledby="left">
        <h2 id="left">What is left</h2>
        {report.budgets.length === 0 ? (
          <p className="field-help">Nothing is limited here.</p>
        ) : (
          <ul className="rows" aria-label="Budgets">
            {report.budgets.map((one) => (
              <BudgetRow key={one.name} budget={one} />
            ))}
          </ul>
        )}
      </section>
      <section className="panel" aria-labelledby="used">
        <h2 id="used">What you used</h2>
        <Month used={report.this_month} />
        {report.by_day.length === 0 ? (
          <p className="field-help">Nothing in the last {report.days} days.</p>
        ) : (
          <>
            <UsedTable caption={`By day, the last ${report.days} days`} of="Day" rows={rowsOfDays(report.by_day)} />
            <UsedTable caption="By model" of="Model" rows={report.by_model.map((one) => ({ ...one, name: one.model }))} />
          </>
        )}
      </section>
    </div>
  );
}

function BudgetRow({ budget }: { budget: Budget }) {
  const locale = useLocale();
  const id = useId();
  const share = shareOf(budget);
  const amount = (value: string) => amountOf(value, budget.unit, locale);
  const tone = share === null || share < NEARLY ? "" : share < 1 ? "is-near" : "is-over";
  return (
    <li className="budget">
      <p className="budget-head">
        <span id={id}>{nameOf(budget.name)}</span>
        <span>{share === null ? `${amount(budget.limit)} at most` : `${amount(budget.left)} of ${amount(budget.limit)} left`}</span>
      </p>
      {share === null ? null : (
        <div
          className={`meter ${tone}`}
          role="meter"
          aria-labelledby={id}
          aria-valuemin={0}
          aria-valuemax={100}
          aria-valuenow={Math.round(share * 100)}
          aria-valuetext={`${Math.floor(share * 100)} % used, ${amount(budget.left)} left`}
        >
          <div style={{ width: `${share * 100}%` }} />
        </div>
      )}
      {budget.resets_at === null ? null : <p className="field-help">Begins anew {resetOf(budget.resets_at, locale)}.</p>}
    </li>
  );
}

function Month({ used }: { used: Used }) {
  const locale = useLocale();
  const tokens = String(used.prompt_tokens + used.completion_tokens);
  return (
    <p>
      This month: {used.answers === 1 ? "one answer" : `${amountOf(String(used.answers), "answers", locale)} answers`}, {amountOf(tokens, "tokens", locale)} tokens, {amountOf(used.cost, "usd", locale)}.
    </p>
  );
}

function UsageSkeleton() {
  return (
    <div className="panel skeletons" aria-busy="true">
      <p className="visually-hidden" role="status">
        Loading your usage
      </p>
      <div className="skeleton skeleton-line skeleton-short" aria-hidden="true" />
      <div className="skeleton skeleton-field" aria-hidden="true" />
    </div>
  );
}
