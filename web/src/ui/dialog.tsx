/** A window of its own above the page: it holds the focus, Esc closes it, and the focus goes back. */
import { useEffect, useId, useRef, type ReactNode } from "react";
import { createPortal } from "react-dom";
import { Store } from "../stores";
import { Announcer } from "./announce";
import { IconButton } from "./controls";

/** The window that is open: nothing outside it can be pressed. */
export const topmost = new Store<HTMLElement | null>(null);

interface DialogProps {
  title: string;
  onClose: () => void;
  className?: string;
  children: ReactNode;
}

export function Dialog({ title, onClose, className = "", children }: DialogProps) {
  const box = useRef<HTMLDialogElement>(null);
  const id = useId();

  useEffect(() => {
    const before = document.activeElement;
    box.current?.showModal();
    const below = topmost.value;
    topmost.set(box.current);
    return () => {
      topmost.set(below);
      if (before instanceof HTMLElement) before.focus();
    };
  }, []);

  return createPortal(
    <dialog
      ref={box}
      className={`dialog ${className}`}
      aria-labelledby={id}
      onClose={onClose}
      // Esc closes this and nothing else: it must not also stop an answer behind it.
      onKeyDown={(event) => event.key === "Escape" && event.stopPropagation()}
      onClick={(event) => event.target === box.current && box.current.close()}
    >
      <div className="dialog-inside">
        <div className="dialog-head">
          <h2 id={id}>{title}</h2>
          <IconButton label="Close" icon="close" onClick={() => box.current?.close()} />
        </div>
        {children}
      </div>
      <Announcer />
    </dialog>,
    document.body,
  );
}
