/** The card that stands before the chats, and what its forms are made of. */
import { useEffect, useId, useRef, useState, type ReactNode, type Ref } from "react";
import { useAuth } from "../auth";
import { authProblem, type AuthProblem } from "../auth-errors";
import { Link } from "../router";
import { IconButton, Notice } from "../ui/controls";
import { Mark } from "../ui/icons";
import { useSecondsUntil, useTitle } from "../ui/hooks";

export function Gate({ title, lead, children }: { title: string; lead: ReactNode; children: ReactNode }) {
  const { config } = useAuth();
  const heading = useRef<HTMLHeadingElement>(null);
  useTitle(title);

  // Forms that take the focus themselves do so first, because they are inside.
  useEffect(() => {
    if (document.activeElement === document.body) heading.current?.focus();
  }, []);

  return (
    <div className="gate">
      <main className="gate-card" id="main">
        <div className="gate-brand">
          <Mark size={40} />
          <span>{config.name}</span>
        </div>
        <h1 ref={heading} tabIndex={-1}>
          {title}
        </h1>
        <p className="quiet">{lead}</p>
        {children}
      </main>
    </div>
  );
}

/** A problem, and the id under which the page says it: several forms may have one. */
type SaidProblem = AuthProblem & { id: string };

/** What went wrong with a form, and how long to wait before it can be sent again. */
export function useProblem() {
  const { lastRetryAfterS } = useAuth();
  const id = useId();
  const [problem, setProblem] = useState<SaidProblem | null>(null);
  const [until, setUntil] = useState<number | null>(null);
  const waitS = useSecondsUntil(until);
  const fail = (error: unknown): AuthProblem => {
    const found = authProblem(error, lastRetryAfterS());
    setProblem({ ...found, id });
    setUntil(found.retryAfterS === null ? null : Date.now() + found.retryAfterS * 1000);
    return found;
  };
  /** The id of what is wrong with *field*, where something is. */
  const invalid = (field: NonNullable<AuthProblem["field"]>): string | undefined => (problem?.field === field ? id : undefined);
  return { problem, waitS, fail, clear: () => setProblem(null), invalid };
}

/** What a box says of itself where something is wrong with it, and *problem* is the id of what. */
export function described(problem: string | undefined): { "aria-invalid"?: true; "aria-describedby"?: string } {
  return problem === undefined ? {} : { "aria-invalid": true, "aria-describedby": problem };
}

export function ProblemNotice({ problem, waitS }: { problem: SaidProblem | null; waitS: number }) {
  if (!problem) return null;
  const { suggest } = problem;
  return (
    <div id={problem.id}>
      <Notice
        tone="error"
        actions={suggest ? <Link href={suggest === "sign-in" ? "/sign-in" : "/sign-in?mode=sign-up"}>{suggest === "sign-in" ? "Sign in instead" : "Create an account"}</Link> : null}
      >
        {problem.text}
        {waitS > 0 ? (
          <>
            {/* Seen, and not said aloud each second. */}
            <span aria-hidden="true">{` Try again in ${waitS} s.`}</span>
            <span className="visually-hidden">{` Try again in ${problem.retryAfterS} s.`}</span>
          </>
        ) : null}
      </Notice>
    </div>
  );
}

interface PasswordBoxProps {
  ref?: Ref<HTMLInputElement>;
  id: string;
  label: string;
  value: string;
  onChange: (value: string) => void;
  fresh: boolean;
  invalid?: string | undefined;
  optional?: boolean;
  help?: string;
}

/** A password to type; *fresh* when it is a new one. */
export function PasswordBox({ ref, id, label, value, onChange, fresh, invalid, optional = false, help }: PasswordBoxProps) {
  const [visible, setVisible] = useState(false);
  return (
    <div className="field">
      <label className="field-label" htmlFor={id}>
        {label}
      </label>
      <div className="password">
        <input
          ref={ref}
          id={id}
          className="input"
          type={visible ? "text" : "password"}
          name={id}
          autoComplete={fresh ? "new-password" : "current-password"}
          autoCapitalize="none"
          spellCheck={false}
          required={!optional}
          value={value}
          onChange={(event) => onChange(event.target.value)}
          {...described(invalid)}
        />
        <IconButton label={visible ? "Hide password" : "Show password"} icon={visible ? "eyeOff" : "eye"} aria-pressed={visible} onClick={() => setVisible(!visible)} />
      </div>
      {help ? <p className="field-help">{help}</p> : null}
    </div>
  );
}

interface EmailBoxProps {
  ref?: Ref<HTMLInputElement>;
  value: string;
  onChange: (value: string) => void;
  invalid?: string | undefined;
}

export function EmailBox({ ref, value, onChange, invalid }: EmailBoxProps) {
  return (
    <label className="field">
      <span className="field-label">E-mail</span>
      <input
        ref={ref}
        className="input"
        type="email"
        name="email"
        autoComplete="email"
        inputMode="email"
        required
        value={value}
        onChange={(event) => onChange(event.target.value)}
        {...described(invalid)}
      />
    </label>
  );
}

interface CodeBoxProps {
  ref?: Ref<HTMLInputElement>;
  label: string;
  value: string;
  onChange: (value: string) => void;
  invalid?: string | undefined;
  /** Six digits, or a longer code with letters. */
  digits?: boolean;
}

export function CodeBox({ ref, label, value, onChange, invalid, digits = true }: CodeBoxProps) {
  return (
    <label className="field">
      <span className="field-label">{label}</span>
      <input
        ref={ref}
        className="input input-code"
        type="text"
        inputMode={digits ? "numeric" : "text"}
        autoComplete="one-time-code"
        autoCapitalize="none"
        spellCheck={false}
        required
        value={value}
        onChange={(event) => onChange(event.target.value)}
        {...described(invalid)}
      />
    </label>
  );
}
