/**
 * TeX as MathML, as a tree of plain values: of elements, attributes and styles that are named here
 * and no others, so that a formula can show mathematics and do nothing else.
 */
import temml from "temml";

export interface Typeset {
  tag: string;
  attributes: Record<string, string>;
  style: Record<string, string>;
  children: (Typeset | string)[];
}

const TAGS = new Set(
  "math menclose mfrac mi mmultiscripts mn mo mover mpadded mphantom mprescripts mroot mrow ms mspace msqrt mstyle msub msubsup msup mtable mtd mtext mtr munder munderover none".split(" "),
);
const ATTRIBUTES = new Set(
  "accent columnalign columnspan depth display displaystyle fence form height largeop linethickness lspace mathbackground mathcolor mathsize mathvariant maxsize minsize movablelimits notation rowspacing rspace scriptlevel separator stretchy symmetric voffset width".split(" "),
);
const STYLES = new Set(
  "border borderBottom borderLeft borderRight borderTop bottom color display fontFamily fontStyle fontWeight height justifyContent left marginLeft mathDepth padding paddingBottom paddingLeft paddingRight paddingTop position right textAlign transform width".split(" "),
);

// Whoever could name things could let a short formula become a long one; links, pictures and
// attributes are refused by the library itself.
const REFUSED = new Set("def gdef edef xdef let futurelet global long newcommand renewcommand providecommand toggle endtoggle texttip mathtip label ref eqref".split(" "));
const MOST_NODES = 4_000;
const DEEPEST = 60;

interface Built {
  type?: string;
  text?: string;
  attributes?: Record<string, unknown>;
  classes?: string[];
  style?: Record<string, string>;
  children?: Built[];
}

class NotShown extends Error {}

function kept(values: Record<string, unknown>, names: Set<string>): Record<string, string> {
  const found: Record<string, string> = {};
  for (const [name, value] of Object.entries(values)) {
    const spelled = name.replace(/-([a-z])/g, (_, letter: string) => letter.toUpperCase());
    if (names.has(spelled) && !String(value).includes("(")) found[spelled] = String(value);
  }
  return found;
}

/** The parts of *built*, which has none of its own where it is only a list of others. */
function partsOf(built: Built, depth: number, count: { left: number }): (Typeset | string)[] {
  if (typeof built.text === "string") return [built.text];
  count.left -= 1;
  if (count.left < 0 || depth > DEEPEST) throw new NotShown();
  const children = (built.children ?? []).flatMap((one) => partsOf(one, depth + 1, count));
  if (built.type === undefined) return children;
  if (!TAGS.has(built.type)) throw new NotShown(built.type);
  const attributes = kept(built.attributes ?? {}, ATTRIBUTES);
  const classes = (built.classes ?? []).filter(Boolean).join(" ");
  if (classes !== "") attributes.className = classes;
  return [{ tag: built.type, attributes, style: kept(built.style ?? {}, STYLES), children }];
}

/** Whether *tex* has a command that is refused. Nothing in it can put a name together in another way. */
function isRefused(tex: string): boolean {
  return [...tex.matchAll(/\\([A-Za-z]+|.)/gs)].some(([, name]) => REFUSED.has(name ?? ""));
}

/** *tex* as MathML; null where it is no TeX, or more than a formula. */
export function typeset(tex: string, display: boolean): Typeset | null {
  if (isRefused(tex)) return null;
  try {
    const built = temml.__renderToMathMLTree(tex, { displayMode: display, throwOnError: true, wrap: display ? "none" : "tex", maxExpand: 500, maxSize: [20, 500] }) as Built;
    const [math, ...more] = partsOf(built, 0, { left: MOST_NODES });
    return typeof math === "object" && math.tag === "math" && more.length === 0 ? math : null;
  } catch {
    // What is not understood stays as it was written.
    return null;
  }
}
