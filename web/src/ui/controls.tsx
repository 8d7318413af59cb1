/** Buttons, choices and small signs, so that each looks and speaks the same everywhere. */
import type { ButtonHTMLAttributes, ReactNode, Ref } from "react";
import { Icon, type IconName } from "./icons";

type ButtonProps = ButtonHTMLAttributes<HTMLButtonElement> & { ref?: Ref<HTMLButtonElement> };

interface LabelledButtonProps extends ButtonProps {
  tone?: "primary" | "plain" | "danger";
  busy?: boolean;
  icon?: IconName;
  children: ReactNode;
}

export function Button({ tone = "plain", busy = false, icon, children, disabled, className = "", ...rest }: LabelledButtonProps) {
  return (
    <button
      type="button"
      className={`button button-${tone} ${className}`}
      disabled={disabled || busy}
      aria-busy={busy || undefined}
      {...rest}
    >
      {busy ? <Spinner /> : icon ? <Icon name={icon} /> : null}
      <span>{children}</span>
    </button>
  );
}

interface IconButtonProps extends ButtonProps {
  label: string;
  icon: IconName;
  size?: number;
  /** Shown beside the label when the pointer rests on it. */
  hint?: string;
}

export function IconButton({ label, icon, size = 18, hint, className = "", ...rest }: IconButtonProps) {
  return (
    <button type="button" className={`icon-button ${className}`} aria-label={label} title={hint ? `${label} (${hint})` : label} {...rest}>
      <Icon name={icon} size={size} />
    </button>
  );
}

/** A choice among numbers of days. */
export function DaysSelect({ value, choices, onChange }: { value: number; choices: readonly number[]; onChange: (days: number) => void }) {
  return (
    <span className="select">
      <select className="input" value={value} onChange={(event) => onChange(Number(event.target.value))}>
        {choices.map((one) => (
          <option key={one} value={one}>
            {one === 1 ? "1 day" : `${one} days`}
          </option>
        ))}
      </select>
    </span>
  );
}

export function Spinner() {
  return <span className="spinner" aria-hidden="true" />;
}

interface NoticeProps {
  tone: "error" | "warning" | "info";
  children: ReactNode;
  actions?: ReactNode;
  /** It is there to be read, and not news. */
  old?: boolean;
}

/** Something to know here and now. Errors interrupt a screen reader, the rest waits its turn. */
export function Notice({ tone, children, actions, old = false }: NoticeProps) {
  return (
    <div className={`notice notice-${tone}`}>
      <Icon name="alert" size={18} />
      {/* Without the actions: a button that counts down would have all of it said again each second. */}
      <div className="notice-text" role={old ? undefined : tone === "error" ? "alert" : "status"}>
        {children}
      </div>
      {actions ? <div className="notice-actions">{actions}</div> : null}
    </div>
  );
}

export function FullPage({ title, children, actions }: { title: string; children?: ReactNode; actions?: ReactNode }) {
  return (
    <div className="full-page">
      <h1 tabIndex={-1}>{title}</h1>
      {children ? <div className="full-page-text">{children}</div> : null}
      {actions ? <div className="row">{actions}</div> : null}
    </div>
  );
}
