/** What a screen reader is told without the focus moving. */
import { Store, useStore } from "../stores";

const said = new Store("");

export function announce(text: string): void {
  // The same words twice in a row would not be read again.
  said.set(said.value === text ? `${text}\u00a0` : text);
}

export function Announcer() {
  return (
    <div className="visually-hidden" aria-live="polite" aria-atomic="true">
      {useStore(said)}
    </div>
  );
}
