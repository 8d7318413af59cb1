/** A button with a menu of actions: arrows move, Enter acts, Esc and Tab close. */
import { useEffect, useId, useRef, useState, type KeyboardEvent, type ReactNode } from "react";
import { Icon, type IconName } from "./icons";
import { Popover } from "./popover";

interface MenuAction {
  label: string;
  icon: IconName;
  run: () => void;
  danger?: boolean;
  shortcut?: string;
}

interface MenuProps {
  label: string;
  actions: MenuAction[];
  className?: string;
  children: ReactNode;
}

export function Menu({ label, actions, className = "icon-button", children }: MenuProps) {
  const [open, setOpen] = useState(false);
  const button = useRef<HTMLButtonElement>(null);
  const list = useRef<HTMLDivElement>(null);
  const id = useId();

  const entries = () => [...(list.current?.querySelectorAll<HTMLElement>("[role=menuitem]") ?? [])];

  useEffect(() => {
    if (open) entries()[0]?.focus();
  }, [open]);

  const close = () => setOpen(false);

  const onKeyDown = (event: KeyboardEvent) => {
    const all = entries();
    const at = all.indexOf(document.activeElement as HTMLElement);
    const to = { ArrowDown: at + 1, ArrowUp: at - 1 + all.length, Home: 0, End: all.length - 1 }[event.key];
    if (event.key === "Tab") close();
    if (to === undefined) return;
    event.preventDefault();
    all[to % all.length]?.focus();
  };

  return (
    <>
      <button
        ref={button}
        type="button"
        className={className}
        aria-label={label}
        title={label}
        aria-haspopup="menu"
        aria-expanded={open}
        aria-controls={open ? id : undefined}
        onClick={() => setOpen(!open)}
        onKeyDown={(event) => {
          if (event.key !== "ArrowDown" && event.key !== "ArrowUp") return;
          event.preventDefault();
          setOpen(true);
        }}
      >
        {children}
      </button>
      {open ? (
        <Popover anchor={button} onClose={close}>
          <div ref={list} id={id} role="menu" aria-label={label} className="menu" onKeyDown={onKeyDown}>
            {actions.map((action) => (
              <button
                key={action.label}
                type="button"
                role="menuitem"
                tabIndex={-1}
                className={action.danger ? "menu-item menu-item-danger" : "menu-item"}
                onClick={() => {
                  close();
                  button.current?.focus();
                  action.run();
                }}
              >
                <Icon name={action.icon} />
                <span>{action.label}</span>
                {action.shortcut ? <kbd>{action.shortcut}</kbd> : null}
              </button>
            ))}
          </div>
        </Popover>
      ) : null}
    </>
  );
}
