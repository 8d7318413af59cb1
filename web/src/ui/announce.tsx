/** What a screen reader is told without the focus moving. */
import { useState } from "react";
import { Store, useStore } from "../stores";

const said = new Store("");

export function announce(text: string): void {
  // The same words twice in a row would not be read again.
  said.set(said.value === text ? `${text}\u00a0` : text);
}

/** One for the page, and one in each window above it: what is behind a window is not said. */
export function Announcer() {
  const text = useStore(said);
  const [before] = useState(text);
  return (
    <div className="visually-hidden" aria-live="polite" aria-atomic="true">
      {text === before ? "" : text}
    </div>
  );
}
