// Runs before the first paint. Keep in step with theme.ts.
try {
  const theme = localStorage.getItem("chatkeep:theme");
  if (theme === "light" || theme === "dark") document.documentElement.dataset.theme = theme;
} catch {
  // Storage is blocked: the system's theme is right then.
}
