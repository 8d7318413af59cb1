/** How budgets and what was used are put into words. Pure. */
import type { Budget } from "./wire";

/** From this share on one is told without asking. */
export const NEARLY = 0.8;

const NAMES: Record<string, string> = {
  "tokens-per-day": "Tokens today",
  "tokens-per-month": "Tokens this month",
  "tokens-per-run": "Tokens for one answer",
  "cost-per-day": "Spending today",
  "cost-per-month": "Spending this month",
  "cost-per-run": "Spending for one answer",
  "cost-per-day-total": "What everybody here may spend today",
};

/** What *name* limits, in words. */
export function nameOf(name: string): string {
  return NAMES[name] ?? name.replaceAll("-", " ");
}

/** The share of *budget* that is used, from 0 to 1; null for one of each answer. */
export function shareOf(budget: Budget): number | null {
  if (budget.used === null) return null;
  const limit = Number(budget.limit);
  return limit > 0 ? Math.min(1, Number(budget.used) / limit) : 1;
}

/** The budget that is used up the most, if it nearly is. */
export function nearest(budgets: Budget[]): Budget | null {
  const used = budgets.filter((one) => (shareOf(one) ?? 0) >= NEARLY);
  return used.sort((one, other) => (shareOf(other) ?? 0) - (shareOf(one) ?? 0))[0] ?? null;
}

/** *amount* in the words of its unit. Small money keeps the digits that say something. */
export function amountOf(amount: string, unit: string, locale: string | undefined): string {
  const value = Number(amount);
  if (unit !== "usd") return new Intl.NumberFormat(locale).format(Math.floor(value));
  const digits = value !== 0 && Math.abs(value) < 0.1 ? { maximumSignificantDigits: 2 } : {};
  return new Intl.NumberFormat(locale, { style: "currency", currency: "USD", ...digits }).format(value);
}

/** "at 02:00" for what begins anew within a day, else with the day. */
export function resetOf(moment: string, locale: string | undefined): string {
  const date = new Date(moment);
  const time = date.toLocaleTimeString(locale, { hour: "2-digit", minute: "2-digit" });
  if (date.getTime() - Date.now() <= 86_400_000) return `at ${time}`;
  return `on ${date.toLocaleDateString(locale, { day: "numeric", month: "long" })} at ${time}`;
}
