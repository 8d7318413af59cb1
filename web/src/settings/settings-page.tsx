/** Settings of the person who is signed in. Nothing is lost when they changed elsewhere meanwhile. */
import { useEffect, useRef, useState, type FormEvent, type ReactNode } from "react";
import { ApiError, describe, SessionOver } from "../api";
import { SETTING_NAMES } from "../preferences";
import { keptChanges, type Changes } from "./kept-changes";
import { Link, type SettingsTab } from "../router";
import { useStore } from "../stores";
import { applyTheme, type Theme } from "../theme";
import { announce } from "../ui/announce";
import { Button, FullPage, Notice } from "../ui/controls";
import { useTitle } from "../ui/hooks";
import { toast } from "../ui/toasts";
import { useModels, useWorkspace } from "../workspace";
import type { SettingName, Settings, SettingsValues } from "../wire";
import { AccountTab } from "./account-tab";
import { DevicesTab } from "./devices-tab";
import { ChoiceField, NumberField, SaveBar, Segments, SliderField, TextField } from "./fields";
import { KeysTab } from "./keys-tab";
import { UsageTab } from "./usage-tab";

const LOCALES = ["en-GB", "en-US", "de-DE", "es-ES", "fr-FR", "it-IT", "nl-NL", "pl-PL", "pt-BR", "ja-JP", "ko-KR", "zh-CN"];
const THEMES: { id: Theme; name: string }[] = [
  { id: "system", name: "System" },
  { id: "light", name: "Light" },
  { id: "dark", name: "Dark" },
];

function localeChoices() {
  const names = new Intl.DisplayNames(["en"], { type: "language" });
  return LOCALES.map((id) => ({ id, name: names.of(id) ?? id }));
}

/** Where changes that are not saved are kept, among what was typed and not sent. */
const KEPT = "settings";

type Problems = Partial<Record<string, string>>;

/** What differs from *settings*; changing a field back makes it unchanged. */
function withChange<K extends SettingName>(changes: Changes, settings: Settings, name: K, value: SettingsValues[K]): Changes {
  const next: Changes = { ...changes, [name]: value };
  if (Object.is(settings[name], value)) delete next[name];
  return next;
}

const TABS: { tab: SettingsTab; href: string; name: string; show: () => ReactNode }[] = [
  { tab: "general", href: "/settings", name: "General", show: GeneralTab },
  { tab: "account", href: "/settings/account", name: "Account", show: AccountTab },
  { tab: "devices", href: "/settings/devices", name: "Devices", show: DevicesTab },
  { tab: "keys", href: "/settings/keys", name: "API keys", show: KeysTab },
  { tab: "usage", href: "/settings/usage", name: "Usage", show: UsageTab },
];

export default function SettingsPage({ tab }: { tab: SettingsTab }) {
  const heading = useRef<HTMLHeadingElement>(null);
  const { name, show: Shown } = TABS.find((one) => one.tab === tab) ?? TABS[0]!;
  useTitle(tab === "general" ? "Settings" : `${name} · Settings`);

  useEffect(() => {
    heading.current?.focus();
  }, []);

  return (
    <div className="settings-scroll">
      <div className="settings">
        <h1 ref={heading} tabIndex={-1}>
          Settings
        </h1>
        <nav className="tabs" aria-label="Settings">
          {TABS.map((one) => (
            <Link key={one.tab} href={one.href} aria-current={one.tab === tab ? "page" : undefined}>
              {one.name}
            </Link>
          ))}
        </nav>
        <Shown />
      </div>
    </div>
  );
}

function GeneralTab() {
  const { preferences, drafts } = useWorkspace();
  const settings = useStore(preferences);
  const [opened, setOpened] = useState(false);
  const [failure, setFailure] = useState<unknown>(null);

  const load = () => {
    setFailure(null);
    preferences.load().catch((error: unknown) => {
      if (!(error instanceof SessionOver)) setFailure(error);
    });
  };
  useEffect(load, [preferences]);
  useEffect(() => void drafts.open(KEPT).then(() => setOpened(true)), [drafts]);

  if (settings && opened) return <SettingsForm settings={settings} />;
  if (failure === null) return <SettingsSkeleton />;
  return (
    <FullPage title="Your settings could not be loaded" actions={<Button tone="primary" icon="refresh" onClick={load}>Try again</Button>}>
      <p>{describe(failure)}</p>
    </FullPage>
  );
}

function SettingsForm({ settings }: { settings: Settings }) {
  const { preferences, drafts } = useWorkspace();
  const { list, nameOf } = useModels();
  const byDefault = list === null ? null : nameOf(list.default);
  const [changes, setChanges] = useState<Changes>(() => keptChanges(drafts.get(KEPT), settings, SETTING_NAMES));
  const [problems, setProblems] = useState<Problems>({});
  const [stale, setStale] = useState(false);
  const [saving, setSaving] = useState(false);
  const form = useRef<HTMLFormElement>(null);

  // What was not saved is there again after a look elsewhere, a reload, or the end of a session.
  useEffect(() => drafts.set(KEPT, Object.keys(changes).length === 0 ? "" : JSON.stringify(changes)), [changes, drafts]);

  // Leaving without saving shows the saved theme again.
  useEffect(() => () => applyTheme(preferences.value?.theme ?? "system"), [preferences]);

  const values: SettingsValues = { ...settings, ...changes };
  // Also when the settings were read again meanwhile, which shows the saved one.
  useEffect(() => applyTheme(values.theme ?? "system"), [values.theme, settings]);
  const dirty = SETTING_NAMES.some((name) => name in changes);
  const { policy, effective } = settings;
  const bind = <K extends SettingName>(name: K) => ({
    value: values[name],
    onChange: (value: SettingsValues[K]) => {
      setChanges((before) => withChange(before, settings, name, value));
      setProblems(({ [name]: _gone, ...rest }) => rest);
      setStale(false);
    },
    problem: problems[name],
    locked: policy.locked.includes(name),
  });

  const discard = () => {
    setChanges({});
    setProblems({});
    setStale(false);
    applyTheme(settings.theme ?? "system");
    toast("Your changes are discarded.", { action: { label: "Undo", run: () => setChanges((since) => ({ ...changes, ...since })) } });
  };

  const refused = async (error: unknown) => {
    if (error instanceof SessionOver) return;
    if (error instanceof ApiError && error.status === 412) {
      await preferences.load();
      setStale(true);
      return;
    }
    if (error instanceof ApiError && error.fields.length > 0) {
      setProblems(Object.fromEntries(error.fields.map(({ field, message }) => [field, message])));
      announce(error.fields.map(({ message }) => message).join(" "));
      requestAnimationFrame(() => form.current?.querySelector<HTMLElement>("[aria-invalid=true]")?.focus());
      return;
    }
    toast(`Your settings were not saved. ${describe(error)}`, { tone: "error" });
  };

  const save = async (event: FormEvent) => {
    event.preventDefault();
    setSaving(true);
    try {
      await preferences.save(changes, settings.version);
      discardAfterSave();
      toast("Settings saved.");
    } catch (error) {
      await refused(error).catch((again: unknown) => toast(describe(again), { tone: "error" }));
    } finally {
      setSaving(false);
    }
  };
  const discardAfterSave = () => {
    setChanges({});
    setProblems({});
    setStale(false);
  };

  return (
    <form ref={form} className="settings-panels" onSubmit={(event) => void save(event)} noValidate>
      {stale ? (
        <Notice tone="warning">
          Your settings were changed somewhere else meanwhile. The newer ones are shown now, with what you changed here on top and not saved yet. Look them over and save again.
        </Notice>
      ) : null}

      <section className="panel" aria-labelledby="about-you">
        <h2 id="about-you">You</h2>
        <TextField label="Display name" help="How you are greeted." autoComplete="nickname" {...bind("display_name")} />
        <TextField
          label="Custom instructions"
          help="What every answer should know about you and how you like to be answered."
          rows={4}
          placeholder="I am a nurse. Keep answers short and skip the disclaimers."
          {...bind("custom_instructions")}
        />
      </section>

      <section className="panel" aria-labelledby="look">
        <h2 id="look">Appearance</h2>
        <Segments
          label="Theme"
          choices={THEMES}
          {...bind("theme")}
          value={values.theme ?? "system"}
          onChange={(theme) => {
            applyTheme(theme);
            bind("theme").onChange(settings.theme === null && theme === "system" ? null : theme);
          }}
        />
        <ChoiceField label="Dates and numbers" none="As the browser does" choices={localeChoices()} {...bind("locale")} />
      </section>

      <section className="panel" aria-labelledby="answers">
        <h2 id="answers">Answers</h2>
        <ChoiceField
          label="Model"
          none={byDefault === null ? "Default" : `Default (${byDefault})`}
          choices={list?.models.filter((model) => nameOf(model.id) !== null) ?? []}
          {...bind("default_model")}
          locked={policy.locked.includes("default_model") || policy.locked.includes("model")}
        />
        <SliderField label="Temperature" help="Low repeats itself, high surprises." range={policy.temperature ?? { min: 0, max: 2 }} step={0.1} ends={["Exact", "Inventive"]} effective={effective.temperature} {...bind("temperature")} />
        <SliderField label="Top P" help="How much of the unlikely is considered. Change this or the temperature, not both." range={policy.top_p ?? { min: 0, max: 1 }} step={0.05} ends={["Narrow", "Wide"]} effective={effective.top_p} {...bind("top_p")} />
        <NumberField label="Longest answer" help="In tokens; four tokens are about three words." range={policy.max_tokens} effective={effective.max_tokens} {...bind("max_tokens")} />
        <TextField label="System prompt" help="Sent before every conversation, ahead of your custom instructions." rows={4} {...bind("system_prompt")} />
      </section>

      <KeysPanel />
      <SaveBar dirty={dirty} saving={saving} discard={discard} />
    </form>
  );
}

const KEYS: [string[], string][] = [
  [["Enter"], "Send the message"],
  [["Shift", "Enter"], "New line"],
  [["Esc"], "Stop the answer"],
  [["Page Up"], "Read back while you type"],
  [["Ctrl", "K"], "Search chats"],
  [["Ctrl", "Shift", "O"], "New chat"],
];

function KeysPanel() {
  return (
    <section className="panel" aria-labelledby="keys">
      <h2 id="keys">Keyboard</h2>
      <dl className="keys">
        {KEYS.map(([keys, what]) => (
          <div key={what}>
            <dt>{what}</dt>
            <dd>
              {keys.map((key) => (
                <kbd key={key}>{key}</kbd>
              ))}
            </dd>
          </div>
        ))}
      </dl>
    </section>
  );
}

function SettingsSkeleton() {
  return (
    <div className="settings-panels" aria-busy="true">
      <p className="visually-hidden" role="status">
        Loading your settings
      </p>
      <div className="panel skeletons" aria-hidden="true">
        <div className="skeleton skeleton-line skeleton-short" />
        <div className="skeleton skeleton-field" />
        <div className="skeleton skeleton-line skeleton-short" />
        <div className="skeleton skeleton-field" />
      </div>
    </div>
  );
}
