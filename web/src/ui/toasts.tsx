/** Short messages at the edge of the page, some with one thing to do about them. */
import { useEffect, useRef, useState, type RefObject } from "react";
import { createPortal } from "react-dom";
import { Store, useStore } from "../stores";
import { IconButton } from "./controls";
import { topmost } from "./dialog";

interface Toast {
  id: number;
  text: string;
  tone: "info" | "error";
  action?: { label: string; run: () => void };
}

const LIFE_MS = 6_000;
const LIFE_WITH_ACTION_MS = 10_000;

const toasts = new Store<Toast[]>([]);
let counter = 0;

export function toast(text: string, options: { tone?: Toast["tone"]; action?: Toast["action"] } = {}): void {
  const entry: Toast = { id: ++counter, text, tone: options.tone ?? "info" };
  if (options.action) entry.action = options.action;
  toasts.update((shown) => [...shown.slice(-2), entry]);
}

function dismiss(id: number): void {
  toasts.update((shown) => shown.filter((entry) => entry.id !== id));
}

function ToastLine({ entry }: { entry: Toast }) {
  const [held, setHeld] = useState(false);
  const left = useRef(entry.action ? LIFE_WITH_ACTION_MS : LIFE_MS);

  useEffect(() => {
    if (held) return;
    const started = performance.now();
    const timer = setTimeout(() => dismiss(entry.id), left.current);
    return () => {
      clearTimeout(timer);
      left.current = Math.max(2_000, left.current - (performance.now() - started));
    };
  }, [held, entry.id]);

  const hold = { onPointerEnter: () => setHeld(true), onPointerLeave: () => setHeld(false), onFocus: () => setHeld(true), onBlur: () => setHeld(false) };
  return (
    <div className={`toast toast-${entry.tone}`} {...hold}>
      <span className="toast-text">{entry.text}</span>
      {entry.action ? (
        <button
          type="button"
          className="toast-action"
          onClick={() => {
            dismiss(entry.id);
            entry.action?.run();
          }}
        >
          {entry.action.label}
        </button>
      ) : null}
      <IconButton label="Dismiss" icon="close" size={16} onClick={() => dismiss(entry.id)} />
    </div>
  );
}

/** Keep the messages above *foot*, however high it gets: what is typed or said there is not covered. */
export function useToastsAbove(foot: RefObject<HTMLElement | null>): void {
  useEffect(() => {
    const box = foot.current;
    if (!box) return;
    const { style } = document.documentElement;
    const observer = new ResizeObserver(() => style.setProperty("--foot", `${box.offsetHeight}px`));
    observer.observe(box);
    return () => {
      observer.disconnect();
      style.removeProperty("--foot");
    };
  }, [foot]);
}

export function Toasts() {
  const shown = useStore(toasts);
  const above = useStore(topmost);
  const list = (
    <div className="toasts" role="status" aria-live="polite">
      {shown.map((entry) => (
        <ToastLine key={entry.id} entry={entry} />
      ))}
    </div>
  );
  // Behind a window they could be neither read nor pressed.
  return above === null ? list : createPortal(list, above);
}
