/** The kinds of fields the settings page is made of. Null means: not set, the default applies. */
import { useId, type ReactNode } from "react";
import { Button } from "../ui/controls";
import type { Range } from "../wire";

interface FieldProps {
  label: string;
  help?: ReactNode;
  problem?: string | undefined;
  locked: boolean;
}

interface ShellProps extends FieldProps {
  id: string;
  aside?: ReactNode;
  children: ReactNode;
}

function described(id: string, { help, problem, locked }: FieldProps): { "aria-describedby"?: string; "aria-invalid"?: true } {
  const ids = [help || locked ? `${id}-help` : "", problem ? `${id}-problem` : ""].filter(Boolean).join(" ");
  return { ...(ids ? { "aria-describedby": ids } : {}), ...(problem ? { "aria-invalid": true } : {}) };
}

function FieldShell({ id, label, help, problem, locked, aside, children }: ShellProps) {
  return (
    <div className="field">
      <div className="field-head">
        <label className="field-label" htmlFor={id}>
          {label}
        </label>
        {aside}
      </div>
      {children}
      {problem ? (
        <p className="field-problem" id={`${id}-problem`}>
          {problem}
        </p>
      ) : null}
      {help || locked ? (
        <p className="field-help" id={`${id}-help`}>
          {locked ? "Set by whoever runs this server." : help}
        </p>
      ) : null}
    </div>
  );
}

interface TextFieldProps extends FieldProps {
  value: string | null;
  onChange: (value: string | null) => void;
  rows?: number;
  placeholder?: string;
  autoComplete?: string;
}

export function TextField({ value, onChange, rows, placeholder, autoComplete, ...field }: TextFieldProps) {
  const id = useId();
  const shared = {
    id,
    className: "input",
    value: value ?? "",
    disabled: field.locked,
    placeholder,
    ...described(id, field),
  };
  return (
    <FieldShell id={id} {...field}>
      {rows ? (
        <textarea {...shared} rows={rows} onChange={(event) => onChange(event.target.value || null)} />
      ) : (
        <input {...shared} type="text" autoComplete={autoComplete} onChange={(event) => onChange(event.target.value || null)} />
      )}
    </FieldShell>
  );
}

interface ChoiceFieldProps extends FieldProps {
  value: string | null;
  onChange: (value: string | null) => void;
  none: string;
  choices: { id: string; name: string }[];
}

export function ChoiceField({ value, onChange, none, choices, ...field }: ChoiceFieldProps) {
  const id = useId();
  // A value from elsewhere stays visible although it is not offered here.
  const unknown = value !== null && !choices.some((choice) => choice.id === value);
  return (
    <FieldShell id={id} {...field}>
      <span className="select">
        <select id={id} className="input" value={value ?? ""} disabled={field.locked} {...described(id, field)} onChange={(event) => onChange(event.target.value || null)}>
          <option value="">{none}</option>
          {unknown ? <option value={value}>{value}</option> : null}
          {choices.map((choice) => (
            <option key={choice.id} value={choice.id}>
              {choice.name}
            </option>
          ))}
        </select>
      </span>
    </FieldShell>
  );
}

interface SliderFieldProps extends FieldProps {
  value: number | null;
  effective: number | null;
  onChange: (value: number | null) => void;
  range: Range;
  step: number;
  ends: [string, string];
}

export function SliderField({ value, effective, onChange, range, step, ends, ...field }: SliderFieldProps) {
  const id = useId();
  const shown = value ?? effective ?? (range.min + range.max) / 2;
  const aside = (
    <span className="field-aside">
      <output htmlFor={id} className={value === null ? "quiet" : ""}>
        {value === null ? (effective === null ? "Default" : `Default (${effective})`) : value}
      </output>
      {value === null || field.locked ? null : (
        <button type="button" className="text-button" onClick={() => onChange(null)}>
          Use default
        </button>
      )}
    </span>
  );
  return (
    <FieldShell id={id} {...field} aside={aside}>
      <input
        id={id}
        type="range"
        className={value === null ? "slider is-default" : "slider"}
        min={range.min}
        max={range.max}
        step={step}
        value={shown}
        disabled={field.locked}
        aria-valuetext={value === null ? "Default" : String(value)}
        {...described(id, field)}
        onChange={(event) => onChange(Number(event.target.value))}
      />
      <div className="slider-ends" aria-hidden="true">
        <span>{ends[0]}</span>
        <span>{ends[1]}</span>
      </div>
    </FieldShell>
  );
}

interface NumberFieldProps extends FieldProps {
  value: number | null;
  effective: number | null;
  onChange: (value: number | null) => void;
  range: Range | null;
}

export function NumberField({ value, effective, onChange, range, ...field }: NumberFieldProps) {
  const id = useId();
  return (
    <FieldShell id={id} {...field}>
      <input
        id={id}
        className="input input-number"
        type="number"
        inputMode="numeric"
        min={range?.min}
        max={range?.max}
        step={1}
        value={value ?? ""}
        disabled={field.locked}
        placeholder={effective === null ? "Default" : `Default (${effective})`}
        {...described(id, field)}
        onChange={(event) => onChange(event.target.value === "" ? null : Number(event.target.value))}
      />
    </FieldShell>
  );
}

interface SegmentsProps<T extends string> extends FieldProps {
  value: T;
  onChange: (value: T) => void;
  choices: { id: T; name: string }[];
}

export function Segments<T extends string>({ label, value, onChange, choices, locked, help, problem }: SegmentsProps<T>) {
  const name = useId();
  return (
    <fieldset className="field segments" disabled={locked}>
      <legend className="field-label">{label}</legend>
      <div className="segments-row">
        {choices.map((choice) => (
          <label key={choice.id} className="segment">
            <input type="radio" name={name} value={choice.id} checked={choice.id === value} onChange={() => onChange(choice.id)} />
            <span>{choice.name}</span>
          </label>
        ))}
      </div>
      {problem ? <p className="field-problem">{problem}</p> : null}
      {help || locked ? <p className="field-help">{locked ? "Set by whoever runs this server." : help}</p> : null}
    </fieldset>
  );
}

interface SaveBarProps {
  dirty: boolean;
  saving: boolean;
  discard: () => void;
}

export function SaveBar({ dirty, saving, discard }: SaveBarProps) {
  return (
    <div className={dirty ? "save-bar is-shown" : "save-bar"} inert={!dirty}>
      <span>You have unsaved changes.</span>
      <Button onClick={discard} disabled={saving}>
        Discard
      </Button>
      <Button tone="primary" type="submit" busy={saving}>
        Save
      </Button>
    </div>
  );
}
