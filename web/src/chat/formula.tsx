/**
 * A formula as MathML, which the browser draws and a screen reader reads. What is copied is the TeX
 * that was written. Until it is typeset, and where it cannot be, that is shown, too.
 */
import { createElement, useEffect, useMemo, useState, type ReactNode } from "react";
import type { Typeset } from "./formula-mathml";
import { typesetBefore, typesetOf } from "./typesetting";

interface FormulaProps {
  tex: string;
  source: string;
  display: boolean;
}

function elementOf({ tag, attributes, style, children }: Typeset): ReactNode {
  const parts = children.map((one) => (typeof one === "string" ? one : elementOf(one)));
  return createElement(tag, { ...attributes, style }, ...parts);
}

export function Formula({ tex, source, display }: FormulaProps) {
  const [made, setMade] = useState<{ tex: string; typeset: Typeset | null } | null>(null);
  const typeset = made?.tex === tex ? made.typeset : (typesetBefore(tex, display) ?? null);

  useEffect(() => {
    let current = true;
    void typesetOf(tex, display).then((found) => current && setMade({ tex, typeset: found }));
    return () => {
      current = false;
    };
  }, [tex, display]);

  const math = useMemo(() => typeset && elementOf(typeset), [typeset]);
  if (math === null) return source;
  return (
    <span className={display ? "formula formula-display" : "formula"} data-written={source} dir="ltr">
      {math}
    </span>
  );
}

function formulaAround(node: Node): Element | null {
  return (node instanceof Element ? node : node.parentElement)?.closest("[data-written]") ?? null;
}

/** Put the TeX in the place of the formulas that are copied, each of them whole. */
function copyAsWritten(event: ClipboardEvent): void {
  const selection = getSelection();
  const typed = event.target instanceof Element && event.target.closest("input, textarea") !== null;
  if (typed || !selection || selection.rangeCount === 0 || !event.clipboardData) return;
  const range = selection.getRangeAt(0).cloneRange();
  const [first, last] = [formulaAround(range.startContainer), formulaAround(range.endContainer)];
  if (first) range.setStartBefore(first);
  if (last) range.setEndAfter(last);
  const place = document.createElement("div");
  place.append(range.cloneContents());
  const formulas = place.querySelectorAll<HTMLElement>("[data-written]");
  if (formulas.length === 0) return;
  for (const one of formulas) one.replaceWith(one.dataset.written ?? "");
  // Its lines are told by how it is laid out.
  place.className = "visually-hidden";
  document.body.append(place);
  event.clipboardData.setData("text/plain", place.innerText);
  event.clipboardData.setData("text/html", place.innerHTML);
  place.remove();
  event.preventDefault();
}

document.addEventListener("copy", copyAsWritten);
