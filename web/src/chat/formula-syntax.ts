/**
 * Where formulas are in Markdown: `\(…\)`, `\[…\]`, `$$…$$`, and `$…$` where it can be no price.
 *
 * An extension of micromark, so that code stays code and nothing within a formula is taken for
 * emphasis, a list or a link. One that is not closed (yet) is text, up to the next blank line.
 */
import type { Html } from "mdast";
import type { Extension as TreeExtension } from "mdast-util-from-markdown";
import type { Code, Construct, Effects, Extension, ParseContext, State, TokenizeContext } from "micromark-util-types";

declare module "micromark-util-types" {
  interface TokenTypeMap {
    formula: "formula";
    formulaMark: "formulaMark";
    formulaData: "formulaData";
  }
}

const DOLLAR = 36;
const BACKSLASH = 92;
const BACKTICK = 96;
const CLOSING: Record<number, string> = { 40: "\\)", 91: "\\]" };
// Longer ones nobody reads; what would be one without an end is looked through no further.
const LONGEST = 4_000;

const isEol = (code: Code) => code !== null && code < -2;
const isSpace = (code: Code) => code === 32 || code === -2 || code === -1;
const isLetterOrDigit = (code: Code) => code !== null && code >= 0 && /[0-9A-Za-z]/.test(String.fromCharCode(code));

// A word of a sentence, and an amount with a word or the sign of a range behind it.
const WORD = /\s[A-Za-z]{3,}(?=[\s,.;:!?]|$)|^[A-Za-z]{3,}[,.;:!?]?\s/;
const AMOUNT = /^[\d.,]+(\s+[A-Za-z]{2,}|\s*[-–—/,;:]$)/;

/** Whether *tex*, found between two dollar signs, reads like a formula, and not like what stands between two amounts. */
export function isLikelyFormula(tex: string): boolean {
  const bare = tex.replace(/\{[^{}]*\}/g, "{}");
  return !WORD.test(bare) && !AMOUNT.test(bare);
}

interface Kind {
  closing: string;
  /** In a line of its own, or lines. */
  flow: boolean;
  /** Between single dollar signs, which mean other things, too. */
  careful: boolean;
}

// Up to where each text that is read has no more closing marks: nobody looks for them twice.
const barren = new WeakMap<ParseContext, Map<string, number>>();

function tokenizer(flow: boolean) {
  return function tokenize(this: TokenizeContext, effects: Effects, ok: State, nok: State): State {
    const { parser, interrupt } = this;
    const now = () => this.now();
    const until = barren.get(parser) ?? new Map<string, number>();
    barren.set(parser, until);
    let kind: Kind;
    let text = "";
    let inData = false;

    const leave = () => {
      if (inData) effects.exit("formulaData");
      inData = false;
    };
    const take = (code: Code) => {
      if (!inData) effects.enter("formulaData");
      inData = true;
      text += code !== null && code >= 0 ? String.fromCharCode(code) : " ";
      effects.consume(code);
    };
    const closing: Construct = { partial: true, tokenize: (inner, closed, open) => markOf(inner, kind.closing, closed, open) };
    const nextLine: Construct = {
      partial: true,
      tokenize: (inner, continues, ends) => (code) => {
        inner.enter("lineEnding");
        inner.consume(code);
        inner.exit("lineEnding");
        return (first) => (flow && parser.lazy[now().line] ? ends(first) : continues(first));
      },
    };

    const opened = (closes: string, careful: boolean): State => {
      kind = { closing: closes, flow, careful };
      // Whether it is closed is known later; a paragraph ends here all the same.
      if (flow && interrupt) return ok;
      return now().offset < (until.get(closes) ?? 0) ? nok : inside;
    };
    const start: State = (code) => {
      effects.enter("formula");
      effects.enter("formulaMark");
      effects.consume(code);
      return code === DOLLAR ? afterDollar : afterBackslash;
    };
    const afterBackslash: State = (code) => {
      const closes = code === null ? undefined : CLOSING[code];
      if (closes === undefined || (flow && closes === "\\)")) return nok(code);
      effects.consume(code);
      effects.exit("formulaMark");
      return opened(closes, false);
    };
    const afterDollar: State = (code) => {
      if (code === DOLLAR) {
        effects.consume(code);
        effects.exit("formulaMark");
        return opened("$$", false);
      }
      if (flow || code === null || isEol(code) || isSpace(code)) return nok(code);
      effects.exit("formulaMark");
      return opened("$", true)(code);
    };
    const unclosed: State = (code) => {
      until.set(kind.closing, now().offset);
      return nok(code);
    };
    const inside: State = (code) => {
      if (code === null || code === BACKTICK || text.length > LONGEST) return unclosed(code);
      if (isEol(code)) {
        if (kind.careful) return unclosed(code);
        leave();
        text += "\n";
        return effects.attempt(nextLine, lineBegins, nok)(code);
      }
      if (code === kind.closing.charCodeAt(0)) {
        leave();
        return effects.attempt(closing, closed, notClosing)(code);
      }
      return plain(code);
    };
    const lineBegins: State = (code) => {
      if (code === null || isEol(code)) return unclosed(code);
      if (!isSpace(code)) return inside(code);
      take(code);
      return lineBegins;
    };
    const notClosing: State = (code) => (kind.careful ? nok(code) : plain(code));
    const plain: State = (code) => {
      take(code);
      return code === BACKSLASH ? escaped : inside;
    };
    const escaped: State = (code) => {
      if (code === null || isEol(code)) return inside(code);
      take(code);
      return inside;
    };
    const closed: State = (code) => {
      const tex = text.trim();
      if (tex === "" || !ends(code)) return nok(code);
      if (kind.careful && (/\s$/.test(text) || !isLikelyFormula(tex))) return nok(code);
      return flow ? trailing(code) : done(code);
    };
    const ends = (code: Code) => {
      if (kind.closing === "\\]") return code !== 40 && code !== 91 && code !== 58; // no link, no definition
      return code !== DOLLAR && !(kind.careful && isLetterOrDigit(code));
    };
    const trailing: State = (code) => {
      if (isSpace(code)) {
        effects.enter("whitespace");
        effects.consume(code);
        effects.exit("whitespace");
        return trailing;
      }
      return code === null || isEol(code) ? done(code) : nok(code);
    };
    const done: State = (code) => {
      effects.exit("formula");
      return ok(code);
    };
    return start;
  };
}

/** Take *mark*, letter by letter. */
function markOf(effects: Effects, mark: string, ok: State, nok: State): State {
  let at = 0;
  const next: State = (code) => {
    if (code !== mark.charCodeAt(at)) return nok(code);
    if (at === 0) effects.enter("formulaMark");
    effects.consume(code);
    at += 1;
    if (at < mark.length) return next;
    effects.exit("formulaMark");
    return ok;
  };
  return next;
}

const inText: Construct = { name: "formula", tokenize: tokenizer(false) };
const inTextAfterDollar: Construct = { ...inText, previous: (code) => code !== DOLLAR && !isLetterOrDigit(code) };
const inFlow: Construct = { name: "formula", tokenize: tokenizer(true), concrete: true };

export const formulaSyntax: Extension = {
  text: { [DOLLAR]: inTextAfterDollar, [BACKSLASH]: inText },
  flow: { [DOLLAR]: inFlow, [BACKSLASH]: inFlow },
};

/** Formulas as elements called `formula`: the TeX between the marks, and all of it as it was written. */
export const formulaTree: TreeExtension = {
  enter: {
    formula(token) {
      // Of no kind that others know: what it becomes is all in its data.
      this.enter({ type: "formula", data: {} } as unknown as Html, token);
      this.buffer();
    },
  },
  exit: {
    formulaData(token) {
      this.config.enter.data?.call(this, token);
      this.config.exit.data?.call(this, token);
    },
    formula(token) {
      const tex = this.resume();
      const mark = /^(\$\$?|\\.)/.exec(this.sliceSerialize(token))?.[0] ?? "";
      const source = mark + tex + (CLOSING[mark.charCodeAt(1)] ?? mark);
      const display = mark === "$$" || mark === "\\[";
      const node = this.stack.at(-1);
      if (node) node.data = { hName: "formula", hProperties: { tex: tex.trim(), source, display }, hChildren: [{ type: "text", value: source }] } as object;
      this.exit(token);
    },
  },
};

interface Registers {
  micromarkExtensions?: Extension[];
  fromMarkdownExtensions?: TreeExtension[];
}

/** The same, as remark takes it. */
export function remarkFormulas(this: { data: () => object }): void {
  const data = this.data() as Registers;
  (data.micromarkExtensions ??= []).push(formulaSyntax);
  (data.fromMarkdownExtensions ??= []).push(formulaTree);
}
