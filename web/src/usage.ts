/** What is left of the caller's budgets, and what to say when one refuses. */
import { nameOf, resetOf } from "./amounts";
import { ApiError, describe, type Api } from "./api";
import { Store } from "./stores";
import type { Budget, UsageReport } from "./wire";

/** What to tell a person about *error*, with the budget and the local time where it is about one. */
export function describeRefusal(error: unknown, locale: string | undefined): string {
  if (!(error instanceof ApiError) || error.budget === null) return describe(error);
  if (error.resetsAt === null) return `${nameOf(error.budget)}: this question needs more than there may be. Ask something shorter.`;
  return `${nameOf(error.budget)}: used up, or too little is left for this question. It begins anew ${resetOf(error.resetsAt, locale)}.`;
}

/** The budgets, read when the page opens and after each answer where there are any. */
export class Budgets extends Store<Budget[]> {
  readonly #api: Api;

  constructor(api: Api) {
    super([]);
    this.#api = api;
  }

  async load(): Promise<void> {
    this.set((await this.#api.json<UsageReport>("GET", "/api/usage?days=1")).budgets);
  }
}
