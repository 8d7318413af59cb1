/** Bars over time as SVG, in one sentence for who hears them, and as a table for who wants the numbers. */
import { useId } from "react";
import { scaleOf, sum } from "./figures";

interface Series {
  name: string;
  /** The class that colours it: `tone-…` of admin.css. */
  tone: string;
  values: number[];
}

interface ChartProps {
  title: string;
  /** What each place of the series stands for, in words. */
  places: string[];
  series: Series[];
  format: (value: number) => string;
  /** What is said of all of it; without one the totals of the series. */
  summary?: string;
  /** Words for the table's first column. */
  by: string;
  ends: [string, string];
  /** Whether to name the colours with their totals; not where adding up says nothing. */
  legend?: boolean;
}

const WIDTH = 600;
const HEIGHT = 120;

export function BarChart({ title, places, series, format, summary, by, ends, legend = true }: ChartProps) {
  const id = useId();
  const totals = places.map((_, place) => sum(series.map((one) => one.values[place] ?? 0)));
  const top = scaleOf(Math.max(0, ...totals));
  const step = WIDTH / Math.max(1, places.length);
  const said = summary ?? series.map((one) => `${one.name}: ${format(sum(one.values))}`).join(", ");
  return (
    <figure className="chart panel" aria-labelledby={`${id}-title`}>
      <figcaption>
        <h2 id={`${id}-title`}>{title}</h2>
        <p className="field-help">{said}</p>
      </figcaption>
      <div className="chart-plot">
        <span className="chart-top" aria-hidden="true">
          {format(top)}
        </span>
        <svg viewBox={`0 0 ${WIDTH} ${HEIGHT}`} preserveAspectRatio="none" role="img" aria-label={`${title}. ${said}`}>
          <line className="chart-line" x1="0" x2={WIDTH} y1="0.5" y2="0.5" />
          <line className="chart-line" x1="0" x2={WIDTH} y1={HEIGHT / 2} y2={HEIGHT / 2} />
          {places.map((place, number) => (
            <g key={number}>
              <title>{`${place}: ${series.map((one) => `${one.name} ${format(one.values[number] ?? 0)}`).join(", ")}`}</title>
              <rect className="chart-touch" x={number * step} y="0" width={step} height={HEIGHT} />
              {stacked(series, number).map(([tone, from, value]) => (
                <rect
                  key={tone}
                  className={tone}
                  x={number * step + step * 0.1}
                  width={step * 0.8}
                  y={HEIGHT - ((from + value) / top) * HEIGHT}
                  height={(value / top) * HEIGHT}
                />
              ))}
            </g>
          ))}
          <line className="chart-base" x1="0" x2={WIDTH} y1={HEIGHT} y2={HEIGHT} />
        </svg>
        <p className="chart-ends" aria-hidden="true">
          <span>{ends[0]}</span>
          <span>{ends[1]}</span>
        </p>
      </div>
      {series.length > 1 && legend ? (
        <ul className="legend" aria-label="Colours">
          {series.map((one) => (
            <li key={one.name}>
              <span className={`legend-dot ${one.tone}`} aria-hidden="true" />
              {one.name} <strong>{format(sum(one.values))}</strong>
            </li>
          ))}
        </ul>
      ) : null}
      <details>
        <summary>As a table</summary>
        <div className="used-scroll" tabIndex={0} role="region" aria-label={`${title}, as a table`}>
          <table className="used">
            <thead>
              <tr>
                <th scope="col">{by}</th>
                {series.map((one) => (
                  <th key={one.name} scope="col">
                    {one.name}
                  </th>
                ))}
              </tr>
            </thead>
            <tbody>
              {places.map((place, number) =>
                totals[number] === 0 ? null : (
                  <tr key={number}>
                    <th scope="row">{place}</th>
                    {series.map((one) => (
                      <td key={one.name}>{format(one.values[number] ?? 0)}</td>
                    ))}
                  </tr>
                ),
              )}
            </tbody>
          </table>
        </div>
        {sum(totals) === 0 ? <p className="field-help">Nothing in this time.</p> : null}
      </details>
    </figure>
  );
}

/** What stands at one place: each tone, where it begins, and how much it is. */
function stacked(series: Series[], number: number): [string, number, number][] {
  let from = 0;
  return series.flatMap((one): [string, number, number][] => {
    const value = one.values[number] ?? 0;
    from += value;
    return value > 0 ? [[one.tone, from - value, value]] : [];
  });
}
