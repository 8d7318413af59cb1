/** A quiet word near the composer when a budget is nearly used up. */
import { amountOf, nameOf, nearest, resetOf, shareOf } from "../amounts";
import { Link } from "../router";
import { useStore } from "../stores";
import { useLocale, useWorkspace } from "../workspace";

export function BudgetHint() {
  const { budgets } = useWorkspace();
  const locale = useLocale();
  const budget = nearest(useStore(budgets));
  if (budget === null) return null;
  const over = shareOf(budget) === 1;
  const left = `${amountOf(budget.left, budget.unit, locale)} left`;
  return (
    <p className="budget-hint" role="status">
      <Link href="/settings/usage">
        {nameOf(budget.name)}: {over ? "used up" : left}
      </Link>
      {budget.resets_at === null ? null : ` · anew ${resetOf(budget.resets_at, locale)}`}
    </p>
  );
}
