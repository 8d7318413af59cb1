/**
 * What a tool is given or gave, as a person reads it before they say yes.
 *
 * A character that is not seen, or that turns its neighbours round, is shown by its number: what
 * reads as one address must not be run as another.
 */

// Line breaks and tabs are seen for what they are.
const UNSEEN = /[^\P{C}\n\t]|[\u2028\u2029]/gu;

export function written(value: unknown): string {
  const text = typeof value === "string" ? value : (JSON.stringify(value, null, 2) ?? "");
  return text.replace(UNSEEN, (one) => `\\u{${(one.codePointAt(0) ?? 0).toString(16)}}`);
}
