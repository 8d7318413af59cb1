/** Which colours are shown: the person's choice, else the system's. Keep in step with theme-boot.js. */
export type Theme = "system" | "light" | "dark";

const KEY = "chatkeep:theme";

/** Show *theme* now and remember it for the next start of this browser. */
export function applyTheme(theme: Theme): void {
  const root = document.documentElement;
  if (theme === "system") delete root.dataset.theme;
  else root.dataset.theme = theme;
  try {
    if (theme === "system") localStorage.removeItem(KEY);
    else localStorage.setItem(KEY, theme);
  } catch {
    // Storage is blocked: the choice lasts for this page only.
  }
}
