/** The caller's settings as the server keeps them, and what they change on the page. */
import type { Api } from "./api";
import { Store } from "./stores";
import { applyTheme } from "./theme";
import type { Settings, SettingsValues } from "./wire";

export const SETTING_NAMES = [
  "display_name",
  "theme",
  "locale",
  "default_model",
  "temperature",
  "top_p",
  "max_tokens",
  "system_prompt",
  "custom_instructions",
] as const satisfies readonly (keyof SettingsValues)[];

export class Preferences extends Store<Settings | null> {
  readonly #api: Api;

  constructor(api: Api) {
    super(null);
    this.#api = api;
  }

  async load(): Promise<Settings> {
    return this.#accept(await this.#api.json<Settings>("GET", "/api/settings"));
  }

  /** Change settings read at *version*; a newer version on the server makes this a 412. */
  async save(changes: Partial<SettingsValues>, version: number): Promise<Settings> {
    return this.#accept(await this.#api.json<Settings>("PATCH", "/api/settings", { ...changes, version }));
  }

  #accept(settings: Settings): Settings {
    this.set(settings);
    applyTheme(settings.theme ?? "system");
    return settings;
  }
}

/** A locale the browser can format with; undefined means the browser's own. */
export function usableLocale(locale: string | null | undefined): string | undefined {
  if (!locale) return undefined;
  try {
    return Intl.DateTimeFormat.supportedLocalesOf(locale)[0];
  } catch {
    // The server keeps any text as a locale; what is not one is ignored here.
    return undefined;
  }
}
