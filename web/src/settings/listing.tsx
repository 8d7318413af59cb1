/** A list of the account's that is read from the sign-in service, and what each such panel shows. */
import { useEffect, useState, type ReactNode } from "react";
import { Button, Notice } from "../ui/controls";
import { useLatest } from "../ui/hooks";
import { ProblemNotice, useProblem } from "../sign-in/gate";

/** Read a list with *read*, and again after each change made through `change`. */
export function useListing<T>(read: () => Promise<{ data: T[] | null; error: unknown }>) {
  const [items, setItems] = useState<T[] | null>(null);
  const [busy, setBusy] = useState(false);
  const { problem, waitS, fail, clear } = useProblem();

  const load = useLatest(async () => {
    const { data, error } = await read();
    if (error) fail(error);
    else setItems(data ?? []);
  });
  useEffect(() => void load(), [load]);

  /** Do *work*; true when nothing was refused. */
  const change = async (work: () => Promise<{ error: unknown }>): Promise<boolean> => {
    setBusy(true);
    clear();
    const { error } = await work();
    if (error) fail(error);
    else await load();
    setBusy(false);
    return !error;
  };
  return { items, busy, problem, waitS, load, change, again: () => (clear(), void load()) };
}

interface ListingProps<T> {
  listing: Pick<ReturnType<typeof useListing<T>>, "items" | "problem" | "waitS" | "again">;
  label: string;
  empty: string;
  row: (item: T) => ReactNode;
}

export function Listing<T extends { id: string }>({ listing, label, empty, row }: ListingProps<T>) {
  const { items, problem, waitS, again } = listing;
  if (items === null && problem !== null) {
    return (
      <Notice tone="error" actions={<Button icon="refresh" onClick={again}>Try again</Button>}>
        {problem.text}
      </Notice>
    );
  }
  if (items === null) {
    return (
      <div className="skeletons" role="status">
        <span className="visually-hidden">Loading</span>
        <div className="skeleton skeleton-field" aria-hidden="true" />
      </div>
    );
  }
  return (
    <>
      <ProblemNotice problem={problem} waitS={waitS} />
      {items.length === 0 ? (
        <p className="field-help">{empty}</p>
      ) : (
        <ul className="rows" aria-label={label}>
          {items.map((item) => (
            <li key={item.id} className="panel-row">
              {row(item)}
            </li>
          ))}
        </ul>
      )}
    </>
  );
}
