/**
 * Splits Markdown into top-level pieces, so that while an answer is being written only its last
 * piece is parsed again.
 *
 * A cut is made only where two pieces cannot influence each other: at a blank line outside a fence
 * before text that starts in the first column and is not a list item. Every piece that could refer
 * to a link's definition has all of them at its end, where they show nothing. From the first
 * footnote on the text is left whole: its notes stand at the end.
 */

const FENCE = /^ {0,3}(`{3,}|~{3,})/;
const DEFINITION = /^ {0,3}\[[^\]]+\]:/;
const WHOLE_DEFINITION = /^ {0,3}\[[^^\]][^\]]*\]: *\S+( +("[^"]*"|'[^']*'|\([^)]*\)))? *$/;
const CONTINUES = /^(\s|[-*+] |\d{1,9}[.)] |\|)/;

export function splitBlocks(text: string): string[] {
  const blocks: string[] = [];
  const definitions: string[] = [];
  let current: string[] = [];
  let fence: string | null = null;
  let blank = true;
  let defining = false;
  let noted = false;
  for (const line of text.split("\n")) {
    const marker = FENCE.exec(line)?.[1];
    if (fence === null) {
      if (blank && !noted && current.length > 0 && line !== "" && !CONTINUES.test(line)) {
        blocks.push(current.join("\n"));
        current = [];
      }
      noted ||= line.includes("[^");
      // In the middle of a paragraph it is text like any other.
      const begins: boolean = (blank || defining) && DEFINITION.test(line);
      defining = begins && WHOLE_DEFINITION.test(line);
      if (defining) definitions.push(line);
      // It goes on in the next line, or is a note's.
      else if (begins && !noted) return [text];
    }
    if (marker && fence === null) fence = marker;
    else if (marker && fence && marker.startsWith(fence) && line.trim() === marker) fence = null;
    blank = fence === null && line.trim() === "";
    current.push(line);
  }
  if (current.length > 0) blocks.push(current.join("\n"));
  if (definitions.length === 0 || blocks.length < 2) return blocks;
  const all = `\n\n${definitions.join("\n")}`;
  // Within an open fence they would be seen.
  return blocks.map((block, at) => (block.includes("[") && (fence === null || at < blocks.length - 1) ? block + all : block));
}
