import assert from "node:assert/strict";
import { test } from "node:test";
import { fromMarkdown } from "mdast-util-from-markdown";
import { formulaSyntax, formulaTree } from "./formula-syntax.ts";

interface Node {
  type: string;
  value?: string;
  data?: { hProperties?: { tex: string; source: string; display: boolean } };
  children?: Node[];
}

function tree(text: string): Node {
  return fromMarkdown(text, { extensions: [formulaSyntax], mdastExtensions: [formulaTree] }) as Node;
}

/** The formulas of *text*, those of lines of their own in brackets. */
function formulas(text: string): string[] {
  const found: string[] = [];
  const walk = (node: Node) => {
    const said = node.data?.hProperties;
    if (node.type === "formula" && said) found.push(said.display ? `[${said.tex}]` : said.tex);
    node.children?.forEach(walk);
  };
  walk(tree(text));
  return found;
}

test("each of the four marks is one", () => {
  assert.deepEqual(formulas("So \\(a\\), \\[b\\], $$c$$ and $d$."), ["a", "[b]", "[c]", "d"]);
  assert.deepEqual(formulas("Where $\\alpha_1 + x^2$, ($y$) and $-1$: $f(x)$!"), ["\\alpha_1 + x^2", "y", "-1", "f(x)"]);
  assert.deepEqual(formulas("公式$x$是"), ["x"]);
  assert.deepEqual(formulas("$x$$y$"), []);
});

test("prices, variables of a shell and escaped dollars are none", () => {
  for (const text of [
    "It costs $5 and $6.",
    "From $5 to $10, or 5$ to 10$.",
    "$5-$6, $5/$6 and US$7, CA$8",
    "I paid $20 for the US$ version",
    "echo $HOME and $PATH, $HOME/bin:$PATH",
    "\\$x\\$ and $ x $ and $x $",
    "between $5 and 10$ it is cheap",
    "$",
    "$$",
    "$$$$",
    "Either \\$5 or $6",
  ]) {
    assert.deepEqual(formulas(text), [], text);
  }
});

test("code is code", () => {
  assert.deepEqual(formulas("`$x$` and ``\\(y\\)``"), []);
  assert.deepEqual(formulas("```\n$$\nx\n$$\n```"), []);
  assert.deepEqual(formulas("    \\[x\\]"), []);
  assert.deepEqual(formulas("it costs $5 `and $6`"), []);
});

test("what is not closed yet is text", () => {
  for (const whole of ["So \\[\na\n= b\n\\] and more", "So\n\\[\na\n+ b\n\\]\nand more"]) {
    for (let end = 1; end < whole.indexOf("\\]") + 2; end += 1) assert.deepEqual(formulas(whole.slice(0, end)), []);
    assert.equal(formulas(whole).length, 1);
  }
  assert.deepEqual(formulas("$$\nx\n\ny\n$$"), []);
});

test("nothing within one is Markdown", () => {
  assert.deepEqual(formulas("\\[\na_1 *b*\n+ c_1\n- d\n1. e\n# f\n= \\\\ g\n\\]"), ["[a_1 *b*\n+ c_1\n- d\n1. e\n# f\n= \\\\ g]"]);
  assert.deepEqual(formulas("text:\n$$\nx\n- y\n$$\nmore"), ["[x\n- y]"]);
  assert.deepEqual(formulas("$a*b$ and $c*d$"), ["a*b", "c*d"]);
  assert.deepEqual(formulas("\\(a \\text{(b\\)}"), ["a \\text{(b"]);
  assert.deepEqual(formulas("$$ a \\$ b $$"), ["[a \\$ b]"]);
});

test("it stands in lists, quotations and headings", () => {
  assert.deepEqual(formulas("1. One:\n\n   \\[\n   x\n   + y\n   \\]\n\n2. Two $z$"), ["[x\n+ y]", "z"]);
  assert.deepEqual(formulas("> $$\n> x\n> $$\n"), ["[x]"]);
  assert.deepEqual(formulas("> $$\n> x\ny\n$$\n"), []);
  assert.deepEqual(formulas("# The case of $n=1$\n- \\(a\\)"), ["n=1", "a"]);
});

test("escaped brackets of a link are none", () => {
  assert.deepEqual(formulas("\\[no link\\](https://example.com) and \\[x\\]: y"), []);
});

test("the source is what was written", () => {
  const [node] = tree("\\[ a\n b \\]").children ?? [];
  assert.deepEqual(node?.data?.hProperties, { tex: "a\n b", source: "\\[ a\n b \\]", display: true });
});

test("many that are never closed are read in a moment", () => {
  const began = performance.now();
  for (const mark of ["$x", "$$x ", "\\(x ", "\\[x ", "\\[\nx\n", "$$\nx\n"]) tree(mark.repeat(2_000));
  assert.ok(performance.now() - began < 10_000);
});
