/** Changes of settings that were made on the page and not saved, as they are kept. Pure. */
import type { SettingsValues } from "../wire";

export type Changes = Partial<SettingsValues>;

/** What *text* keeps of changes to the settings called *names*; nothing of what is so by now. */
export function keptChanges(text: string, settings: SettingsValues, names: readonly (keyof SettingsValues)[]): Changes {
  try {
    const kept = JSON.parse(text) as Changes | null;
    if (typeof kept !== "object" || kept === null) return {};
    return Object.fromEntries(names.filter((name) => name in kept && !Object.is(kept[name], settings[name])).map((name) => [name, kept[name]]));
  } catch {
    return {};
  }
}
