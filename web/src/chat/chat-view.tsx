/** An open conversation: its messages, and the box to go on. */
import { useEffect, useMemo, useRef, useState, type DragEvent } from "react";
import { Button, IconButton, Notice, Spinner } from "../ui/controls";
import { isComposing } from "../ui/composing";
import { Icon } from "../ui/icons";
import { isTouch, useLatest, useOnline, useSecondsUntil, useTitle } from "../ui/hooks";
import { ApiError, describe, SessionOver } from "../api";
import { NEW } from "../drafts";
import { Link, navigate, useNamedMessage } from "../router";
import { toast, useToastsAbove } from "../ui/toasts";
import { straight } from "../ui/straight";
import { useStore } from "../stores";
import { describeRefusal } from "../usage";
import { useLocale, useModels, useWorkspace } from "../workspace";
import type { MessagePage } from "../wire";
import { useAttachments } from "./attachments";
import { BudgetHint } from "./budget-hint";
import { Composer, type ComposerHandle } from "./composer";
import { keyOf } from "./messages";
import { MessageView, Waiting, type MessageActions } from "./message-view";
import { useStickyScroll } from "./scroll";
import { useSession, type Session } from "./session";
import { begunWith, joined } from "./typed";
import { STARTS, Welcome } from "./welcome";

// The server names a conversation after its first answer, not always before we ask again.
const TITLE_DELAY_MS = 2_500;

/** The draft of this conversation, kept across reloads and expired sessions. */
function useDraft(key: string, stored: MessagePage | null) {
  const { drafts } = useWorkspace();
  const [text, setText] = useState(() => {
    const kept = drafts.get(key);
    const lastAsked = stored?.messages.findLast((message) => message.role === "user")?.content;
    // The page was left between sending and hearing that it arrived.
    return kept.trim() === lastAsked?.trim() ? "" : kept;
  });
  // What is true now, for who has waited for the server.
  const latest = useRef(text);
  // What was sent and the server may not have: a reload finds it, ahead of what was typed since.
  const sent = useRef("");
  const put = (value: string) => {
    latest.current = value;
    setText(value);
  };
  const change = (value: string) => {
    put(value);
    drafts.set(key, joined(sent.current, value));
  };
  return {
    text,
    change,
    now: () => latest.current,
    hide: () => {
      sent.current = latest.current;
      put("");
    },
    /** What was sent came back: it stands ahead of what was typed since. */
    putBack: (earlier: string) => {
      sent.current = "";
      change(joined(earlier, latest.current));
    },
    /** The server has it, and what was typed since is the draft of *next*. */
    forget: (next: string) => {
      sent.current = "";
      drafts.set(key, "");
      drafts.set(next, latest.current);
    },
  };
}

export function ChatView({ id, page }: { id: string; page: MessagePage | null }) {
  const { api, budgets, conversations, chosenModel } = useWorkspace();
  const { items } = useStore(conversations);
  const { list } = useModels();
  const chosen = useStore(chosenModel);
  const model = list?.models.some((choice) => choice.id === chosen) ? chosen : null;
  const draftKey = useRef(page === null ? NEW : id);
  const draft = useDraft(draftKey.current, page);
  const composer = useRef<ComposerHandle>(null);
  const title = straight(items.find((item) => item.id === id)?.title ?? page?.title ?? "");
  useTitle(title);
  const locale = useLocale();

  const accepted = useLatest(() => {
    draft.forget(id);
    draftKey.current = id;
    conversations.touch(id, page?.title ?? null);
    if (location.pathname === "/") navigate(`/c/${id}`, { replace: true });
  });
  const settled = useLatest(() => {
    const refresh = () => conversations.refresh().catch((error: unknown) => console.info("The list was not read again:", error));
    void refresh();
    if (budgets.value.length > 0) budgets.load().catch((error: unknown) => console.info("The budgets were not read:", error));
    if (!conversations.find(id)?.title) setTimeout(refresh, TITLE_DELAY_MS);
  });

  const session = useSession({ id, api, page, model, onAccepted: accepted, onSettled: settled });
  const { messages, busy, settling, trouble } = session;
  const { scroller, content, away, toBottom, toMessage, byPage } = useStickyScroll(messages[0] && keyOf(messages[0]));
  const foot = useRef<HTMLDivElement>(null);
  useToastsAbove(foot);
  const named = useNamedMessage();

  useEffect(() => {
    if (named === null) return;
    // After the page has gone to its end, where a chat opens.
    const frame = requestAnimationFrame(() => {
      if (!toMessage(named)) toast("That message is further up, or in another version of this chat.");
      navigate(location.pathname, { replace: true });
    });
    return () => cancelAnimationFrame(frame);
  }, [named]);

  const attachments = useAttachments();
  const dropping = useDropping(attachments.add);
  const taking = useRef(false);
  const waitS = useSecondsUntil(trouble?.kind === "unsent" ? trouble.until : null);
  const blocked = trouble?.kind === "unsent";

  const send = useLatest(async () => {
    if (taking.current) return;
    taking.current = true;
    const files = await attachments.take();
    taking.current = false;
    if (files === null) return; // what was typed stays, and a notice says what was refused
    // With what was typed while the files were on their way.
    const text = draft.now().trim();
    if (text === "" && files.length === 0) return;
    draft.hide();
    toBottom();
    const outcome = await session.ask(text, files);
    if (outcome !== "withdrawn") return;
    draft.putBack(text);
    attachments.putBack(files);
  });

  const takeBack = () => {
    const { text, files } = session.withdraw();
    draft.putBack(text);
    attachments.putBack(files);
    composer.current?.focus();
  };

  // The button that was pressed goes away with its message.
  const typeOn = () => {
    if (!isTouch()) composer.current?.focus();
  };

  const fork = useLatest(async (messageId: string) => {
    try {
      navigate(`/c/${await conversations.fork(id, messageId)}`);
      toast("This is a copy of the chat up to there. The other stays as it is.");
    } catch (error) {
      if (!(error instanceof SessionOver)) toast(`Could not copy the chat: ${describe(error)}`, { tone: "error" });
    }
  });

  const actions = useMemo<MessageActions>(
    () => ({
      edit: session.edit,
      regenerate: (messageId) => {
        toBottom();
        typeOn();
        void session.regenerate(messageId);
      },
      goOn: (messageId) => {
        typeOn();
        void session.goOn(messageId);
      },
      switchTo: (messageId) => void session.switchTo(messageId),
      fork: (messageId) => void fork(messageId),
      decide: (approvalId, approved) => void session.decide(approvalId, approved),
    }),
    [fork, session.edit, session.regenerate, session.goOn, session.switchTo, session.decide],
  );

  useEffect(() => {
    const escape = (event: KeyboardEvent) => {
      if (event.key === "Escape" && busy && !event.defaultPrevented && !isComposing(event)) void session.stop();
    };
    addEventListener("keydown", escape);
    return () => removeEventListener("keydown", escape);
  }, [busy, session.stop]);

  const start = (text: string) => {
    draft.change(begunWith(text, draft.text, STARTS.map((one) => one.text)));
    composer.current?.focus();
  };
  const lastIsQuestion = messages.at(-1)?.role === "user";
  const unanswered = lastIsQuestion && !busy && !settling && trouble === null;

  return (
    <div className={dropping.over ? "chat is-dropping" : "chat"} {...dropping.handlers}>
      <div className="chat-scroll" ref={scroller} tabIndex={-1}>
        <div className="chat-column" ref={content}>
          {session.hasOlder ? <Older session={session} /> : null}
          {messages.length === 0 ? <Welcome onPick={start} /> : <h1 className="visually-hidden">{title || "Chat"}</h1>}
          <div role="log" aria-label="Messages" aria-live="off">
            {messages.map((message, index) => (
              <MessageView
                key={keyOf(message)}
                chat={id}
                message={message}
                actions={actions}
                locked={busy || trouble !== null}
                streaming={busy && index === messages.length - 1 && message.role === "assistant"}
                last={index === messages.length - 1}
                unsent={blocked && index === messages.length - 1}
                locale={locale}
              />
            ))}
          </div>
          {lastIsQuestion && (busy || (settling && !blocked)) ? <Waiting /> : null}
          {unanswered ? <Unanswered again={() => actions.regenerate(messages.at(-1)?.id ?? "")} /> : null}
        </div>
      </div>
      <div className="chat-foot" ref={foot}>
        {away ? (
          <IconButton
            label="Jump to latest"
            icon="arrowDown"
            className="jump"
            onClick={() => {
              toBottom(true);
              if (!isTouch()) composer.current?.focus();
            }}
          />
        ) : null}
        <div className="chat-column">
          <Troubles session={session} waitS={waitS} takeBack={takeBack} />
          <Composer
            ref={composer}
            text={draft.text}
            onChange={draft.change}
            onSend={() => void send()}
            onStop={() => void session.stop()}
            onPage={byPage}
            answering={busy}
            blocked={blocked}
            attachments={attachments}
            placeholder={messages.length === 0 ? "Ask anything" : "Reply"}
          />
          <BudgetHint />
          <p className="fine-print">Models make mistakes. Check what matters.</p>
        </div>
      </div>
    </div>
  );
}

/** Files may be dropped anywhere on the chat: beside it the browser would leave the page for them. */
function useDropping(add: (files: FileList) => void) {
  const [over, setOver] = useState(false);
  const holdsFiles = (event: DragEvent) => event.dataTransfer.types.includes("Files");
  const handlers = {
    onDragOver: (event: DragEvent) => {
      if (!holdsFiles(event)) return;
      event.preventDefault();
      setOver(true);
    },
    onDragLeave: (event: DragEvent) => {
      const inside = event.relatedTarget instanceof Node && event.currentTarget.contains(event.relatedTarget);
      if (!inside) setOver(false);
    },
    onDrop: (event: DragEvent) => {
      setOver(false);
      if (!holdsFiles(event)) return;
      event.preventDefault();
      add(event.dataTransfer.files);
    },
  };
  return { over, handlers };
}

function Older({ session }: { session: Session }) {
  const line = useRef<HTMLDivElement>(null);
  const { loadOlder, loadingOlder } = session;

  useEffect(() => {
    const node = line.current;
    if (!node) return;
    const observer = new IntersectionObserver((entries) => {
      if (entries.some((entry) => entry.isIntersecting)) void loadOlder();
    });
    observer.observe(node);
    return () => observer.disconnect();
  }, [loadOlder, loadingOlder]);

  return (
    <div className="older" ref={line}>
      <Button busy={loadingOlder} onClick={() => void loadOlder()}>
        Show earlier messages
      </Button>
    </div>
  );
}

function Unanswered({ again }: { again: () => void }) {
  return (
    <Notice
      tone="info"
      actions={
        <Button icon="refresh" onClick={again}>
          Get an answer
        </Button>
      }
    >
      This message has no answer yet.
    </Notice>
  );
}

function Troubles({ session, waitS, takeBack }: { session: Session; waitS: number; takeBack: () => void }) {
  const online = useOnline();
  const locale = useLocale();
  const { trouble } = session;
  if (trouble?.kind === "unsent") {
    const ofBudget = trouble.error instanceof ApiError && trouble.error.budget !== null;
    const wait = waitS > 0 ? ` You can send it again in ${waitS} s.` : "";
    return (
      <Notice
        tone="error"
        actions={
          <>
            {ofBudget ? <Link href="/settings/usage">See usage</Link> : null}
            <Button onClick={takeBack}>Edit</Button>
            <Button tone="primary" icon="refresh" disabled={waitS > 0} onClick={() => void session.retry()}>
              {waitS > 0 ? `Send again (${waitS})` : "Send again"}
            </Button>
          </>
        }
      >
        Your message was not sent. {describeRefusal(trouble.error, locale)}
        <span aria-hidden="true">{wait}</span>
      </Notice>
    );
  }
  if (trouble?.kind === "gone") {
    return (
      <Notice tone="warning" actions={<Button icon="plus" onClick={() => navigate("/")}>New chat</Button>}>
        This chat was deleted, in another window or on another device.
      </Notice>
    );
  }
  if (!online) {
    return (
      <p className="strip" role="status">
        <Icon name="offline" size={16} /> You are offline. What you type is kept.
      </p>
    );
  }
  if (trouble?.kind === "reconnecting") {
    return (
      <p className="strip" role="status">
        <Spinner /> The connection broke. Getting the answer back…
      </p>
    );
  }
  if (trouble?.kind === "out-of-step") {
    return (
      <Notice tone="error" actions={<Button icon="refresh" onClick={() => void session.settle()}>Try again</Button>}>
        The conversation could not be read again. {trouble.text}
      </Notice>
    );
  }
  return null;
}

