/** Buttons, choices and small signs, so that each looks and speaks the same everywhere. */
import { useEffect, useId, useRef, useState, type ButtonHTMLAttributes, type KeyboardEvent, type ReactNode, type Ref } from "react";
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

interface AskFirstProps {
  /** What is done, such as "Revoke". */
  verb: string;
  /** To what, where *verb* does not say it. */
  name?: string;
  icon?: IconName;
  /** The two answers, where "it" is not what they are about. */
  yes?: string;
  no?: string;
  /** What the answer should be thought over for. */
  why?: string;
  disabled?: boolean;
  run: () => Promise<unknown>;
}

/** A button for what nothing brings back: it asks in its own place, with the harmless answer in focus. */
export function AskFirst({ verb, name, icon, yes = `Yes, ${verb.toLowerCase()} it`, no = "Keep it", why, disabled = false, run }: AskFirstProps) {
  const [asking, setAsking] = useState(false);
  const [busy, setBusy] = useState(false);
  const button = useRef<HTMLButtonElement>(null);
  const group = useRef<HTMLDivElement>(null);
  const kept = useRef(false);
  const heading = useRef<HTMLElement | null>(null);
  const id = useId();
  const label = name === undefined ? verb : `${verb} ${name}`;

  // The button that was pressed went away with its question.
  useEffect(() => {
    if (!asking && kept.current) button.current?.focus();
    kept.current = false;
  }, [asking]);

  // With what was ended its button may be gone: one reads on from the heading above it.
  useEffect(
    () => () => {
      const above = heading.current;
      if (above) requestAnimationFrame(() => document.activeElement === document.body && focusOn(above));
    },
    [],
  );

  const keep = () => {
    kept.current = true;
    setAsking(false);
  };
  const go = async () => {
    setBusy(true);
    heading.current = group.current?.closest("section, dialog")?.querySelector("h2") ?? null;
    try {
      await run();
    } finally {
      kept.current = document.activeElement === document.body;
      setBusy(false);
      setAsking(false);
    }
  };
  const onKeyDown = (event: KeyboardEvent) => {
    if (event.key !== "Escape") return;
    // The window around it stays open.
    event.preventDefault();
    if (!busy) keep();
  };
  if (!asking) {
    return (
      <Button ref={button} icon={icon} disabled={disabled} aria-label={label} onClick={() => setAsking(true)}>
        {verb}
      </Button>
    );
  }
  return (
    <div ref={group} className="row" role="group" aria-label={`${label}?`} aria-describedby={why === undefined ? undefined : id} onKeyDown={onKeyDown}>
      {why === undefined ? null : <p id={id}>{why}</p>}
      <Button tone="danger" busy={busy} disabled={disabled} onClick={() => void go()}>
        {yes}
      </Button>
      <Button autoFocus disabled={busy} onClick={keep}>
        {no}
      </Button>
    </div>
  );
}

function focusOn(heading: HTMLElement): void {
  heading.tabIndex = -1;
  heading.focus();
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
