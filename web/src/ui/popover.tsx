/** A panel beside its button, drawn above everything, that closes when one turns away from it. */
import { useEffect, useLayoutEffect, useRef, type ReactNode, type RefObject } from "react";
import { createPortal } from "react-dom";
import { isComposing } from "./composing";

const GAP = 6;
const EDGE = 8;

interface PopoverProps {
  anchor: RefObject<HTMLElement | null>;
  onClose: () => void;
  className?: string;
  children: ReactNode;
}

function place(panel: HTMLElement, anchor: HTMLElement): void {
  const from = anchor.getBoundingClientRect();
  const { offsetWidth: width, offsetHeight: height } = panel;
  const below = innerHeight - from.bottom - GAP - EDGE;
  const top = below >= height || below >= from.top ? from.bottom + GAP : from.top - GAP - height;
  const left = from.left + width + EDGE <= innerWidth ? from.left : from.right - width;
  panel.style.top = `${Math.max(EDGE, Math.min(top, innerHeight - height - EDGE))}px`;
  panel.style.left = `${Math.max(EDGE, left)}px`;
}

/** Whether `target` is `element` or in it. */
function holds(element: Element | null, target: EventTarget | null): boolean {
  return target instanceof Node && element !== null && element.contains(target);
}

export function Popover({ anchor, onClose, className = "", children }: PopoverProps) {
  const panel = useRef<HTMLDivElement>(null);
  const close = useRef(onClose);
  close.current = onClose;

  useLayoutEffect(() => {
    if (panel.current && anchor.current) place(panel.current, anchor.current);
  });

  useEffect(() => {
    const outside = (event: PointerEvent) => {
      const { target } = event;
      if (!holds(panel.current, target) && !holds(anchor.current, target)) close.current();
    };
    const escape = (event: KeyboardEvent) => {
      if (event.key !== "Escape" || isComposing(event)) return;
      // Esc closes the panel only; it must not also stop an answer behind it.
      event.stopPropagation();
      close.current();
      anchor.current?.focus();
    };
    const moved = (event: Event) => {
      if (!holds(panel.current, event.target)) close.current();
    };
    // The keyboard on the glass comes for what is typed here, and takes of the height alone.
    const width = innerWidth;
    const resized = () => {
      if (innerWidth !== width) close.current();
      else if (panel.current && anchor.current) place(panel.current, anchor.current);
    };
    addEventListener("pointerdown", outside, true);
    addEventListener("keydown", escape, true);
    addEventListener("resize", resized);
    addEventListener("wheel", moved, { capture: true, passive: true });
    return () => {
      removeEventListener("pointerdown", outside, true);
      removeEventListener("keydown", escape, true);
      removeEventListener("resize", resized);
      removeEventListener("wheel", moved, { capture: true });
    };
  }, [anchor]);

  return createPortal(
    <div ref={panel} className={`popover ${className}`}>
      {children}
    </div>,
    document.body,
  );
}
