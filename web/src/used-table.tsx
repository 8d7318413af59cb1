/** What answers have used, row by row: of days, or of models. */
import { amountOf } from "./amounts";
import type { Used } from "./wire";
import { useLocale } from "./workspace";

interface UsedRow extends Used {
  /** A day (`2026-03-01`, one of UTC whatever the clock here says) or another name. */
  name: string;
}

export function UsedTable({ caption, of, rows }: { caption: string; of: "Day" | "Model"; rows: UsedRow[] }) {
  const locale = useLocale();
  const day = new Intl.DateTimeFormat(locale, { day: "numeric", month: "short", timeZone: "UTC" });
  const number = (value: number) => amountOf(String(value), "tokens", locale);
  return (
    <div className="used-scroll" tabIndex={0} role="region" aria-label={caption}>
      <table className="used">
        <caption>{caption}</caption>
        <thead>
          <tr>
            <th scope="col">{of}</th>
            <th scope="col">Answers</th>
            <th scope="col">Tokens in</th>
            <th scope="col">Tokens out</th>
            <th scope="col">Cost</th>
          </tr>
        </thead>
        <tbody>
          {rows.map((one) => (
            <tr key={one.name}>
              <th scope="row">{of === "Day" ? <time dateTime={one.name}>{day.format(new Date(one.name))}</time> : one.name}</th>
              <td>{number(one.answers)}</td>
              <td>{number(one.prompt_tokens)}</td>
              <td>{number(one.completion_tokens)}</td>
              <td>{amountOf(one.cost, "usd", locale)}</td>
            </tr>
          ))}
        </tbody>
      </table>
    </div>
  );
}

/** The rows of a table of days. */
export function rowsOfDays<T extends Used & { day: string }>(days: T[]): UsedRow[] {
  return days.map((one) => ({ ...one, name: one.day }));
}
