/** What becomes of text that somebody has typed when other text comes beside it. Pure. */

/** *earlier* and what was typed since, as one: neither takes the place of the other. */
export function joined(earlier: string, typed: string): string {
  return [earlier, typed].filter((one) => one.trim() !== "").join("\n\n");
}

/** *typed* with *start* ahead of it, in the place of whichever of *starts* stood there. */
export function begunWith(start: string, typed: string, starts: readonly string[]): string {
  const before = starts.find((one) => typed.startsWith(one)) ?? "";
  const own = typed.slice(before.length).trimStart();
  if (own === "") return start;
  return /\s$/.test(start) ? start + own : joined(start, own);
}

/**
 * Whether a paste is one of text. Word processors and spreadsheets put a picture of it beside the
 * text; of a file only its name comes along, and of a picture on a page no plain text.
 */
export function pastesText(types: readonly string[]): boolean {
  return types.includes("text/plain") && types.includes("text/html");
}
