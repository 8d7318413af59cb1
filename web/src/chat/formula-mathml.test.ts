import assert from "node:assert/strict";
import { test } from "node:test";
import { typeset, type Typeset } from "./formula-mathml.ts";

function textOf(node: Typeset | string): string {
  return typeof node === "string" ? node : node.children.map(textOf).join("");
}

test("what people write is shown", () => {
  for (const tex of [
    "x^2",
    "\\frac{-b \\pm \\sqrt{b^2 - 4ac}}{2a}",
    "\\int_0^\\infty e^{-x^2}\\,dx = \\frac{\\sqrt{\\pi}}{2}",
    "\\begin{pmatrix} a & b \\\\ c & d \\end{pmatrix}",
    "\\begin{aligned} a &= b \\\\ &= c \\end{aligned}",
    "\\begin{cases} 1 & \\text{if } x > 0 \\\\ 0 & \\text{otherwise} \\end{cases}",
    "\\mathbb{R} \\to \\mathcal{L}, \\hat{x}, \\vec{v}, \\overline{AB}, \\boxed{42}, \\cancel{x}",
    "\\sum_{n=1}^{N} \\left( \\frac{1}{n} \\right) \\tag{1}",
    "\\color{red} x + \\textcolor{#00f}{y}",
    "\\hspace{1cm} \\operatorname{argmax}_\\theta",
  ]) {
    const shown = typeset(tex, true);
    assert.equal(shown?.tag, "math", tex);
  }
  assert.equal(textOf(typeset("a+b", false) ?? ""), "a+b");
});

test("what is no formula, or does more than show one, is not", () => {
  for (const tex of [
    "\\frac{1}{",
    "\\notacommand",
    "\\href{https://example.com}{x}",
    "\\url{https://example.com}",
    "\\includegraphics{/api/usage}",
    "\\class{full-page}{x}",
    "\\id{message}{x}",
    "\\style{position: fixed}{x}",
    "\\data{a=b}{x}",
    "\\label{x} y",
    "\\ref{x}",
    "\\toggle{a}{b}\\endtoggle",
    "\\texttip{a}{b}",
    "\\sqrt".repeat(500) + "x",
    "x^{".repeat(300) + "x" + "}".repeat(300),
  ]) {
    assert.equal(typeset(tex, true), null, tex.slice(0, 40));
  }
});

test("nothing can be named, so that nothing grows", () => {
  for (const tex of [
    "\\def\\a{\\a\\a}\\a",
    "\\gdef\\a{x}\\edef\\b{\\a\\a\\a}\\edef\\b{\\b\\b\\b\\b}\\b",
    "\\newcommand{\\a}{\\a}\\a",
    "\\renewcommand{\\frac}{x}\\frac",
    "\\let\\a=x\\a",
    "\\global\\let\\a=x",
  ]) {
    assert.equal(typeset(tex, true), null, tex);
  }
});

test("styles address nothing", () => {
  const text = JSON.stringify(typeset("\\color{red}x \\colorbox{url(/api/usage)}{y} \\boxed{z}", true));
  assert.ok(!text.includes("url("));
});
