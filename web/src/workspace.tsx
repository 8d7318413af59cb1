/** Everything that belongs to the person who is signed in, made anew for the next one. */
import type { User } from "@supabase/supabase-js";
import { createContext, use, useContext, useEffect, useMemo, type ReactNode } from "react";
import { describe, SessionOver, type Api } from "./api";
import { useAuth } from "./auth";
import { Conversations } from "./conversations";
import { draftsOf, type Drafts } from "./drafts";
import { watchChanges } from "./elsewhere";
import { Preferences, usableLocale } from "./preferences";
import { watchTitles } from "./session-watch";
import { Store, useStore } from "./stores";
import { toast } from "./ui/toasts";
import { Budgets } from "./usage";
import type { ModelList } from "./wire";

interface Workspace {
  user: User;
  api: Api;
  drafts: Drafts;
  conversations: Conversations;
  preferences: Preferences;
  models: Store<ModelList | null>;
  budgets: Budgets;
  /** The model chosen in this window for what comes next; null follows the settings. */
  chosenModel: Store<string | null>;
}

/** Who is asked where nobody says whom, and where no provider is set up. */
const BUILT_IN = "chatkeep/eliza";

const Context = createContext<Workspace | null>(null);

export function useWorkspace(): Workspace {
  const context = useContext(Context);
  if (!context) throw new Error("useWorkspace outside WorkspaceProvider");
  return context;
}

export function useLocale(): string | undefined {
  return usableLocale(useStore(useWorkspace().preferences)?.locale);
}

interface Models {
  current: string | null;
  list: ModelList | null;
  /** What *id* is called; null: nobody of that name answers, an application does. */
  nameOf: (id: string) => string | null;
}

/** The model that answers next, and all there are to choose from. */
export function useModels(): Models {
  const { config } = useAuth();
  const { models, chosenModel, preferences } = useWorkspace();
  const list = useStore(models);
  const chosen = useStore(chosenModel);
  const settings = useStore(preferences);
  const allowed = chosen !== null && list?.models.some((model) => model.id === chosen);
  const standsIn = !config.built_in_model && (list === null || list.default === BUILT_IN);
  const nameOf = (id: string) => (standsIn && id === BUILT_IN ? null : (list?.models.find((model) => model.id === id)?.name ?? id));
  return { current: (allowed ? chosen : settings?.effective.model) ?? list?.default ?? null, list, nameOf };
}

function report(error: unknown): void {
  if (!(error instanceof SessionOver)) toast(describe(error), { tone: "error" });
}

/** Suspends for the moment in which the browser says which drafts are this window's. */
export function WorkspaceProvider({ user, api, children }: { user: User; api: Api; children: ReactNode }) {
  const drafts = use(draftsOf(user.id));
  const workspace = useMemo<Workspace>(
    () => ({
      user,
      api,
      drafts,
      conversations: new Conversations(api),
      preferences: new Preferences(api),
      models: new Store<ModelList | null>(null),
      budgets: new Budgets(api),
      chosenModel: new Store<string | null>(null),
    }),
    [user, api, drafts],
  );

  useEffect(() => {
    const { conversations, preferences, models, budgets } = workspace;
    const load = () => {
      conversations.refresh().catch(report);
      if (preferences.value === null) preferences.load().catch(report);
      // Nobody asked for it: what is left is shown when it is known.
      budgets.load().catch((error: unknown) => console.info("The budgets were not read:", error));
      if (models.value === null) api.json<ModelList>("GET", "/api/models").then((list) => models.set(list), report);
    };
    const back = () => {
      if (document.visibilityState === "visible") conversations.refresh().catch(report);
    };
    const titled = () => conversations.refresh().catch((error: unknown) => console.info("The list was not read again:", error));
    const unwatch = watchTitles(() => void titled());
    const unhear = watchChanges(() => void titled());
    load();
    addEventListener("online", load);
    document.addEventListener("visibilitychange", back);
    return () => {
      unwatch();
      unhear();
      removeEventListener("online", load);
      document.removeEventListener("visibilitychange", back);
    };
  }, [workspace, api]);

  return <Context value={workspace}>{children}</Context>;
}
