/** One message: what was said, how it ended, and what can be done with it. */
import { memo, useEffect, useLayoutEffect, useRef, useState, type KeyboardEvent } from "react";
import { editOf } from "../drafts";
import { Button, IconButton, Notice } from "../ui/controls";
import { isComposing } from "../ui/composing";
import { fitToText } from "../ui/hooks";
import { Icon } from "../ui/icons";
import { Told } from "../ui/told";
import { useModels, useWorkspace } from "../workspace";
import { SentFiles } from "./attachments";
import { awaitingApproval, blocksOf, filesOf, hasContent, shortfallOf, textOf, type ChatMessage } from "./messages";
import { CopyButton } from "./copy-button";
import { Markdown, OwnPicture } from "./markdown";
import { SaidPicture } from "./pictures";
import { Sources, ToolUse } from "./tool-use";

export interface MessageActions {
  edit: (id: string, text: string) => Promise<boolean>;
  regenerate: (id: string) => void;
  /** Go on with an answer that was cut off. */
  goOn: (id: string) => void;
  switchTo: (id: string) => void;
  /** Copy the chat up to this message, and go on there. */
  fork: (id: string) => void;
  /** Say yes or no to a tool that waits. */
  decide: (approvalId: string, approved: boolean) => void;
}

interface MessageProps {
  /** The conversation that it is of. */
  chat: string;
  message: ChatMessage;
  actions: MessageActions;
  /** An answer is on its way: nothing that changes the conversation is offered. */
  locked: boolean;
  streaming: boolean;
  last: boolean;
  /** The question did not reach the server. */
  unsent: boolean;
  locale: string | undefined;
}

// The version that was asked for with a button, which goes away with the one before.
let steppedTo: { id: string; step: number } | null = null;

function Versions({ message, locked, switchTo }: { message: ChatMessage; locked: boolean; switchTo: (id: string) => void }) {
  const group = useRef<HTMLSpanElement>(null);
  const siblings = message.metadata?.siblings ?? [];
  const at = siblings.indexOf(message.id);

  useEffect(() => {
    if (steppedTo?.id !== message.id) return;
    const buttons = [...(group.current?.querySelectorAll("button") ?? [])];
    if (steppedTo.step > 0) buttons.reverse();
    buttons.find((one) => !one.disabled)?.focus();
    steppedTo = null;
  }, [message.id]);

  if (siblings.length < 2 || at < 0) return null;
  const go = (step: number) => {
    const id = siblings[at + step];
    if (id === undefined) return;
    steppedTo = { id, step };
    switchTo(id);
  };
  return (
    <span ref={group} className="versions" role="group" aria-label="Versions">
      <IconButton label="Previous version" icon="left" size={16} disabled={locked || at === 0} onClick={() => go(-1)} />
      <span aria-hidden="true">
        {at + 1} / {siblings.length}
      </span>
      <span className="visually-hidden">
        Version {at + 1} of {siblings.length}
      </span>
      <IconButton label="Next version" icon="right" size={16} disabled={locked || at === siblings.length - 1} onClick={() => go(1)} />
    </span>
  );
}

function SentAt({ message, locale }: { message: ChatMessage; locale: string | undefined }) {
  const { createdAt, model } = message.metadata ?? {};
  const { nameOf } = useModels();
  if (!createdAt) return null;
  const answeredBy = model ? nameOf(model) : null;
  const date = new Date(createdAt);
  const today = date.toDateString() === new Date().toDateString();
  const text = new Intl.DateTimeFormat(locale, today ? { timeStyle: "short" } : { dateStyle: "medium", timeStyle: "short" }).format(date);
  return (
    <span className="sent-at">
      <time dateTime={createdAt}>{text}</time>
      {answeredBy ? (
        <span>
          {" "}
          · <Told text={answeredBy} />
        </span>
      ) : null}
    </span>
  );
}

interface EditBoxProps {
  text: string;
  onChange: (text: string) => void;
  onSave: () => void;
  onCancel: () => void;
}

function EditBox({ text, onChange, onSave, onCancel }: EditBoxProps) {
  const area = useRef<HTMLTextAreaElement>(null);

  useEffect(() => {
    area.current?.focus();
    area.current?.setSelectionRange(text.length, text.length);
  }, []);

  useLayoutEffect(() => fitToText(area.current), [text]);

  const ready = text.trim() !== "";
  const onKeyDown = (event: KeyboardEvent) => {
    if (isComposing(event.nativeEvent)) return;
    if (event.key === "Escape") {
      event.stopPropagation();
      onCancel();
    }
    if (event.key === "Enter" && (event.ctrlKey || event.metaKey) && ready) onSave();
  };
  return (
    <form
      className="edit-box"
      onSubmit={(event) => {
        event.preventDefault();
        if (ready) onSave();
      }}
    >
      <textarea
        ref={area}
        aria-label="Edit message"
        dir="auto"
        value={text}
        onChange={(event) => onChange(event.target.value)}
        onKeyDown={onKeyDown}
      />
      <div className="row row-end">
        <Button onClick={onCancel}>Cancel</Button>
        <Button tone="primary" type="submit" disabled={!ready}>
          Send
        </Button>
      </div>
    </form>
  );
}

function UserMessage({ chat, message, actions, locked, unsent, locale }: MessageProps) {
  const { drafts } = useWorkspace();
  const kept = editOf(chat, message.id);
  const [draft, setDraft] = useState(() => drafts.get(kept) || null);
  const [sending, setSending] = useState(false);
  const pencil = useRef<HTMLButtonElement>(null);
  const cancelled = useRef(false);
  const text = textOf(message);

  const change = (value: string | null) => {
    setDraft(value);
    // It outlives a reload and the end of a session, as what is typed below does.
    drafts.set(kept, value === null || value === text ? "" : value);
  };
  const cancel = () => {
    cancelled.current = true;
    change(null);
  };
  const save = async () => {
    const changed = draft?.trim() ?? "";
    if (changed === text.trim()) return cancel();
    setSending(true);
    // A refused edit finds its words again.
    if (await actions.edit(message.id, changed)) change(null);
    setSending(false);
  };
  useEffect(() => {
    if (draft === null && cancelled.current) pencil.current?.focus();
    cancelled.current = false;
  }, [draft]);
  if (draft !== null && !sending) {
    return (
      <article className="message message-user" aria-label="You, editing">
        <EditBox text={draft} onChange={change} onSave={() => void save()} onCancel={cancel} />
      </article>
    );
  }
  return (
    <article id={`m-${message.id}`} className="message message-user" aria-label="You">
      <h2 className="visually-hidden">You said</h2>
      <SentFiles parts={filesOf(message)} />
      {text === "" ? null : (
        <div className={unsent ? "bubble bubble-unsent" : "bubble"} dir="auto">
          {text}
        </div>
      )}
      {unsent ? null : (
        <div className="message-actions">
          <SentAt message={message} locale={locale} />
          <Versions message={message} locked={locked} switchTo={actions.switchTo} />
          {text === "" ? null : <CopyButton text={text} label="Copy message" />}
          <IconButton ref={pencil} label="Edit message" icon="pencil" size={16} disabled={locked} onClick={() => setDraft(text)} />
        </div>
      )}
    </article>
  );
}

function Reasoning({ text, active }: { text: string; active: boolean }) {
  return (
    <details className="fold">
      <summary>
        <Icon name="bulb" size={16} />
        <span className={active ? "shimmer" : ""}>{active ? "Thinking…" : "Reasoning"}</span>
        <Icon name="down" size={16} />
      </summary>
      <Markdown text={text} />
    </details>
  );
}

const ENDINGS = {
  stopped: "You stopped this answer.",
  interrupted: "This answer was interrupted. What was said so far is kept.",
  failed: "This answer failed.",
};

interface EndingProps {
  message: ChatMessage;
  again: () => void;
  goOn: () => void;
  locked: boolean;
  last: boolean;
}

function Ending({ message, again, goOn, locked, last }: EndingProps) {
  const { status, error, finishReason } = message.metadata ?? {};
  const shortfall = shortfallOf(message);
  if (status !== "stopped" && status !== "interrupted" && status !== "failed" && shortfall === null) return null;
  // What waits for a yes or no goes on when that is said; what said nothing has nothing to go on from.
  const cutOff = status === "stopped" || status === "interrupted" || finishReason === "length";
  const continues = last && cutOff && hasContent(message) && awaitingApproval(message).length === 0;
  const proceed = continues ? (
    <Button icon="right" disabled={locked} onClick={goOn}>
      Continue
    </Button>
  ) : null;
  if (shortfall !== null || (status !== "interrupted" && status !== "failed")) {
    return (
      <div className="ending">
        <span>{shortfall ?? ENDINGS.stopped}</span> {proceed}
      </div>
    );
  }
  const retry = last ? (
    <>
      {proceed}
      <Button icon="refresh" disabled={locked} onClick={again}>
        Try again
      </Button>
    </>
  ) : null;
  return (
    <Notice tone={status === "failed" ? "error" : "warning"} actions={retry} old={!last}>
      {error?.message ?? ENDINGS[status]}
    </Notice>
  );
}

function AssistantMessage({ message, actions, locked, streaming, last, locale }: MessageProps) {
  const blocks = blocksOf(message);
  const again = () => actions.regenerate(message.id);
  const goOn = () => actions.goOn(message.id);
  return (
    <article id={`m-${message.id}`} className={last ? "message message-assistant is-last" : "message message-assistant"} aria-label="Answer" aria-busy={streaming}>
      <h2 className="visually-hidden">Answer</h2>
      <OwnPicture value={SaidPicture}>
        {blocks.map((block, index) => {
          if (block.kind === "text") return <Markdown key={index} text={block.text} />;
          if (block.kind === "tool") return <ToolUse key={index} part={block.part} streaming={streaming} locked={locked || !last} decide={actions.decide} />;
          if (block.kind === "sources") return <Sources key={index} sources={block.sources} />;
          return <Reasoning key={index} text={block.text} active={streaming && index === blocks.length - 1} />;
        })}
      </OwnPicture>
      {streaming && !hasContent(message) ? <Waiting /> : null}
      {streaming ? null : <Ending message={message} again={again} goOn={goOn} locked={locked} last={last} />}
      {streaming ? null : (
        <div className="message-actions">
          <Versions message={message} locked={locked} switchTo={actions.switchTo} />
          {textOf(message) === "" ? null : <CopyButton text={textOf(message)} label="Copy answer" />}
          <IconButton label="Answer again" icon="refresh" size={16} disabled={locked} onClick={again} />
          <IconButton label="Go on in a new chat" icon="fork" size={16} disabled={locked} onClick={() => actions.fork(message.id)} />
          <SentAt message={message} locale={locale} />
        </div>
      )}
    </article>
  );
}

/** Shown between the question and the first word of the answer. */
export function Waiting() {
  return (
    <div className="waiting" role="status">
      <span className="visually-hidden">Waiting for the answer</span>
      <span aria-hidden="true" />
      <span aria-hidden="true" />
      <span aria-hidden="true" />
    </div>
  );
}

export const MessageView = memo(function MessageView(props: MessageProps) {
  return props.message.role === "user" ? <UserMessage {...props} /> : <AssistantMessage {...props} />;
});
