/**
 * What somebody called something, for where it stands beside words of ours: without the characters
 * that turn their neighbours round. A name with one of them could make a line say something else.
 */

// Marks, embeddings, overrides and isolates (Unicode UAX #9); letters run their own way without.
const TURNING = /[\u061c\u200e\u200f\u202a-\u202e\u2066-\u2069]/g;

export function straight(text: string): string {
  return text.replace(TURNING, "");
}
