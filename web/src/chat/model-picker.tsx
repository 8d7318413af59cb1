/** Chooses who answers next. Shown only where there is a choice. */
import { useEffect, useId, useRef, useState, type KeyboardEvent } from "react";
import { isComposing } from "../ui/composing";
import { Icon } from "../ui/icons";
import { Popover } from "../ui/popover";
import { useModels, useWorkspace } from "../workspace";
import type { ModelChoice } from "../wire";

const SEARCH_FROM = 8;
/** Whoever answers where nothing is chosen, and has told nobody a name. */
const UNNAMED = "Default";

function matching(models: ModelChoice[], query: string): ModelChoice[] {
  const words = query.toLowerCase().split(/\s+/).filter(Boolean);
  return models.filter((model) => words.every((word) => `${model.name} ${model.id}`.toLowerCase().includes(word)));
}

export function ModelPicker() {
  const { chosenModel } = useWorkspace();
  const { current, list, nameOf } = useModels();
  const [open, setOpen] = useState(false);
  const button = useRef<HTMLButtonElement>(null);
  const models = list?.models ?? [];
  const known = current === null ? null : nameOf(current);

  if (models.length < 2) return known ? <span className="model-name">{known}</span> : null;
  if (!current) return null;
  const name = known ?? UNNAMED;
  return (
    <>
      <button
        ref={button}
        type="button"
        className="model-button"
        aria-haspopup="listbox"
        aria-expanded={open}
        aria-label={`Model: ${name}`}
        onClick={() => setOpen(!open)}
      >
        <span>{name}</span>
        <Icon name="down" size={16} />
      </button>
      {open ? (
        <Popover anchor={button} onClose={() => setOpen(false)} className="model-panel">
          <ModelOptions
            models={models.map((model) => (nameOf(model.id) === null ? { ...model, name: UNNAMED } : model))}
            current={current}
            choose={(id) => {
              chosenModel.set(id);
              setOpen(false);
              button.current?.focus();
            }}
          />
        </Popover>
      ) : null}
    </>
  );
}

interface ModelOptionsProps {
  models: ModelChoice[];
  current: string | null;
  choose: (id: string) => void;
}

function ModelOptions({ models, current, choose }: ModelOptionsProps) {
  const [query, setQuery] = useState("");
  const shown = matching(models, query);
  const [active, setActive] = useState(() => Math.max(0, models.findIndex((model) => model.id === current)));
  const root = useRef<HTMLDivElement>(null);
  const id = useId();
  const searchable = models.length >= SEARCH_FROM;

  useEffect(() => {
    root.current?.querySelector<HTMLElement>("input, [role=listbox]")?.focus();
  }, []);
  useEffect(() => {
    // In braces: newer browsers return a promise here, which is no clean-up function.
    root.current?.querySelector("[aria-selected=true]")?.scrollIntoView({ block: "nearest" });
  }, [active]);

  const onKeyDown = (event: KeyboardEvent) => {
    if (isComposing(event.nativeEvent)) return;
    const step = { ArrowDown: 1, ArrowUp: -1 }[event.key];
    if (step !== undefined) {
      event.preventDefault();
      setActive((at) => Math.min(shown.length - 1, Math.max(0, at + step)));
    }
    const picked = shown[active];
    if (event.key === "Enter" && picked) {
      event.preventDefault();
      choose(picked.id);
    }
  };

  return (
    <div ref={root} onKeyDown={onKeyDown}>
      {searchable ? (
        <input
          className="input"
          type="search"
          role="combobox"
          aria-label="Find a model"
          aria-expanded="true"
          aria-controls={id}
          aria-activedescendant={shown[active] ? `${id}-${active}` : undefined}
          placeholder="Find a model"
          value={query}
          onChange={(event) => {
            setQuery(event.target.value);
            setActive(0);
          }}
        />
      ) : null}
      <div id={id} role="listbox" aria-label="Models" tabIndex={searchable ? -1 : 0} className="model-list" aria-activedescendant={shown[active] ? `${id}-${active}` : undefined}>
        {shown.map((model, index) => (
          <div
            key={model.id}
            id={`${id}-${index}`}
            role="option"
            aria-selected={index === active}
            className="model-option"
            onPointerMove={() => setActive(index)}
            onClick={() => choose(model.id)}
          >
            <span className="model-option-name">{model.name}</span>
            {model.name === model.id || model.name === UNNAMED ? null : <span className="model-option-id">{model.id}</span>}
            {model.id === current ? <Icon name="check" size={16} /> : null}
          </div>
        ))}
        {shown.length === 0 ? <p className="quiet">No model is called that.</p> : null}
      </div>
    </div>
  );
}
