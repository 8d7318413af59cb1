/**
 * Splits Markdown into top-level pieces, so that while an answer is being written only its last
 * piece is parsed again.
 *
 * A cut is made only where two pieces cannot influence each other: at a blank line outside a fence
 * before text that starts in the first column and is not a list item. Text with link or footnote
 * definitions is left whole.
 */

const FENCE = /^ {0,3}(`{3,}|~{3,})/;
const DEFINITION = /^ {0,3}\[[^\]]+\]:/m;
const CONTINUES = /^(\s|[-*+] |\d{1,9}[.)] |\|)/;

export function splitBlocks(text: string): string[] {
  if (DEFINITION.test(text)) return [text];
  const blocks: string[] = [];
  let current: string[] = [];
  let fence: string | null = null;
  let blank = false;
  for (const line of text.split("\n")) {
    const marker = FENCE.exec(line)?.[1];
    if (fence === null && blank && line !== "" && !CONTINUES.test(line)) {
      blocks.push(current.join("\n"));
      current = [];
    }
    if (marker && fence === null) fence = marker;
    else if (marker && fence && marker.startsWith(fence) && line.trim() === marker) fence = null;
    blank = fence === null && line.trim() === "";
    current.push(line);
  }
  if (current.length > 0) blocks.push(current.join("\n"));
  return blocks;
}
