/**
 * One open conversation: the AI SDK's chat, kept in step with what the server stores.
 *
 * The server's copy is the truth. After every answer, however it ended, the newest page is read
 * again: it brings the stored ids, the siblings and the state of the answer, and when an answer is
 * still being written (another device, a broken connection, a reload) it is played on from there.
 */
import { Chat, useChat } from "@ai-sdk/react";
import { useEffect, useMemo, useRef, useState } from "react";
import { ApiError, describe, isNetworkError, SessionOver, type Api } from "../api";
import { newId } from "../ids";
import { announce } from "../ui/announce";
import { useLatest } from "../ui/hooks";
import { straight } from "../ui/straight";
import { toast } from "../ui/toasts";
import type { MessagePage } from "../wire";
import { awaitingApproval, filesOf, fromStored, hasContent, keyOf, mergePage, textOf, type ChatMessage, type FilePart } from "./messages";
import { tellChanged, watchChanges } from "../elsewhere";
import { createTransport } from "./transport";

const PAGE = 60;
const RETRY_MS = [500, 1_500, 4_000, 8_000];
const RESUMES = 20;
const PAUSE_MS = 1_000;
const SPOKEN_CHARACTERS = 600;

/** What stands between the person and an answer, if anything. */
type Trouble =
  | { kind: "unsent"; error: unknown; until: number | null }
  | { kind: "reconnecting" }
  /** Deleted, in another window or on another device. */
  | { kind: "gone" }
  | { kind: "out-of-step"; text: string };

export function readPage(api: Api, id: string, signal?: AbortSignal): Promise<MessagePage> {
  return api.json<MessagePage>("GET", `/api/v1/chat/${id}?limit=${PAGE}`, undefined, signal);
}

function delay(ms: number, cancelled: AbortSignal): Promise<void> {
  return new Promise((resolve) => {
    const timer = setTimeout(done, ms);
    function done() {
      clearTimeout(timer);
      removeEventListener("online", done);
      cancelled.removeEventListener("abort", done);
      resolve();
    }
    // Being online again is worth a try at once.
    addEventListener("online", done);
    cancelled.addEventListener("abort", done);
  });
}

interface SessionOptions {
  id: string;
  api: Api;
  page: MessagePage | null;
  model: string | null;
  /** The server has the question now. */
  onAccepted: () => void;
  /** An answer ended, or the conversation changed otherwise. */
  onSettled: () => void;
}

/** The stored messages of *page* up to an answer that is still being written, or waits to be. */
function settledMessages(page: MessagePage): ChatMessage[] {
  const open = page.active_run === null ? -1 : page.messages.findIndex(({ status }) => status === "running" || status === "queued");
  return (open < 0 ? page.messages : page.messages.slice(0, open)).map(fromStored);
}

export function useSession(options: SessionOptions) {
  const { id, api } = options;
  const latest = useRef(options);
  latest.current = options;

  const [trouble, setTrouble] = useState<Trouble | null>(null);
  const [cursor, setCursor] = useState(options.page?.next_cursor ?? null);
  const [loadingOlder, setLoadingOlder] = useState(false);
  const [settling, setSettling] = useState(Boolean(options.page?.active_run));
  const stopping = useRef<Promise<unknown>>(Promise.resolve());
  const life = useRef(new AbortController());
  // Only the newest request or reading may change the page.
  const round = useRef(0);
  const accepted = useRef(false);
  const exists = useRef(options.page !== null);

  const chat = useMemo(
    () =>
      new Chat<ChatMessage>({
        id,
        generateId: newId,
        messages: latest.current.page ? settledMessages(latest.current.page) : [],
        transport: createTransport({
          api,
          model: () => latest.current.model,
          onAccepted: () => {
            tellChanged(id);
            accepted.current = true;
            exists.current = true;
            // A yes or no to a tool is no question: what is typed meanwhile stays.
            if (chat.lastMessage?.role === "user") latest.current.onAccepted();
          },
        }),
      }),
    [id, api],
  );
  const { messages, status } = useChat<ChatMessage>({ chat, throttle: 40 });
  const isBusy = () => chat.status === "submitted" || chat.status === "streaming";

  const show = (page: MessagePage) => {
    const merged = mergePage(chat.messages, settledMessages(page), page.next_cursor !== null);
    chat.messages = merged.messages;
    if (!merged.keptOlder) setCursor(page.next_cursor);
  };

  const speak = () => {
    const last = chat.lastMessage;
    if (last?.role !== "assistant" || !hasContent(last)) return;
    const [waiting] = awaitingApproval(last);
    if (waiting) return announce(`${straight(waiting.toolName)} waits for your yes or no.`);
    const answer = textOf(last);
    announce(`Answer: ${answer.slice(0, SPOKEN_CHARACTERS)}${answer.length > SPOKEN_CHARACTERS ? " …" : ""}`);
  };

  /** Read the conversation again, waiting out a connection that is away. Null: this page is gone. */
  const readUntilThere = async (mine: number): Promise<MessagePage | null> => {
    for (let attempt = 0; ; attempt += 1) {
      if (life.current.signal.aborted || mine !== round.current) return null;
      try {
        return await readPage(api, id, life.current.signal);
      } catch (error) {
        // What fails late says nothing of what was asked since.
        if (life.current.signal.aborted || mine !== round.current) return null;
        const passing = isNetworkError(error) || (error instanceof ApiError && error.status >= 500);
        if (!passing) throw error;
        setTrouble({ kind: "reconnecting" });
        await delay(RETRY_MS[attempt] ?? 15_000, life.current.signal);
      }
    }
  };

  /** Bring the page in step with the server, playing on whatever is still being written. */
  const settle = useLatest(async () => {
    const mine = ++round.current;
    setSettling(true);
    await stopping.current;
    try {
      let played: string | null = null;
      for (let resumes = 0; resumes < RESUMES; resumes += 1) {
        const page = await readUntilThere(mine);
        if (page === null || mine !== round.current) return;
        // It is said to run, yet there was nothing to play: give it a moment.
        if (page.active_run !== null && page.active_run === played) await delay(PAUSE_MS, life.current.signal);
        played = page.active_run;
        chat.clearError();
        setTrouble(null);
        show(page);
        latest.current.onSettled();
        if (page.active_run === null) return;
        await chat.resumeStream();
        if (mine !== round.current) return;
        speak();
      }
    } catch (error) {
      if (error instanceof SessionOver || mine !== round.current) return;
      if (error instanceof ApiError && error.status === 403) {
        // Stopped before the server had made the conversation, or gone since.
        if (exists.current) setTrouble({ kind: "gone" });
        else chat.messages = [];
        return;
      }
      setTrouble({ kind: "out-of-step", text: describe(error) });
    } finally {
      if (mine === round.current) setSettling(false);
    }
  });

  /** Run one request; true when the server took it in. */
  const attempt = async (request: () => Promise<void>): Promise<boolean> => {
    const mine = ++round.current;
    accepted.current = false;
    setTrouble(null);
    setSettling(false);
    await request();
    if (mine !== round.current) return true;
    if (chat.error && !accepted.current) return false;
    await settle();
    speak();
    return true;
  };

  const unsent = (error: Error | undefined): Trouble => {
    // A budget may be enough for something shorter at once: nobody counts the seconds of a day.
    const waits = error instanceof ApiError && error.status === 429 && error.budget === null;
    return { kind: "unsent", error, until: waits ? Date.now() + (error.retryAfterS ?? 10) * 1000 : null };
  };

  /**
   * Ask *text*. "unsent": the server could not be asked, and the page says so. "withdrawn": it was
   * stopped before the server knew of it, and is not on the page any more.
   */
  const ask = useLatest(async (text: string, files: FilePart[] = [], messageId: string = newId()): Promise<"taken" | "unsent" | "withdrawn"> => {
    if (isBusy()) await stop();
    const taken = await attempt(() => {
      chat.messages = chat.messages.filter((message) => message.id !== messageId);
      return chat.sendMessage({ id: messageId, role: "user", parts: text === "" ? files : [...files, { type: "text", text }] });
    });
    if (!taken) {
      setTrouble(unsent(chat.error));
      return "unsent";
    }
    const shown = chat.messages.some((message) => message.id === messageId || keyOf(message) === messageId);
    return shown || accepted.current ? "taken" : "withdrawn";
  });

  /** Take the question that was not sent out of the page and hand it back. */
  const withdraw = useLatest((): { text: string; files: FilePart[] } => {
    const last = chat.lastMessage;
    setTrouble(null);
    chat.clearError();
    if (last?.role !== "user") return { text: "", files: [] };
    chat.messages = chat.messages.slice(0, -1);
    return { text: textOf(last), files: filesOf(last) };
  });

  const retry = useLatest(() => {
    const last = chat.lastMessage;
    chat.clearError();
    return last?.role === "user" ? ask(textOf(last), filesOf(last), last.id) : settle();
  });

  /** Ask something else in the place of *messageId*, as a new branch; false when it was refused. */
  const edit = useLatest(async (messageId: string, text: string): Promise<boolean> => {
    if (isBusy()) await stop();
    const before = chat.messages.find((message) => message.id === messageId);
    const metadata = { ...before?.metadata, siblings: [] };
    const files = before ? filesOf(before) : [];
    const taken = await attempt(() => chat.sendMessage({ role: "user", parts: [...files, { type: "text", text }], messageId, metadata }));
    if (!taken) await undoRefused();
    return taken;
  });

  const answerAgain = async (request: Parameters<typeof chat.regenerate>[0]): Promise<void> => {
    if (isBusy()) await stop();
    const taken = await attempt(() => chat.regenerate(request));
    if (!taken) await undoRefused();
  };

  const regenerate = useLatest((messageId: string) => answerAgain({ messageId }));

  /** Go on with an answer that was cut off. It is shown anew from its start, as one text. */
  const goOn = useLatest((messageId: string) => answerAgain({ messageId, body: { continue: true } }));

  // The AI SDK has already cut the messages off: what the server has is shown again.
  const undoRefused = async () => {
    const { error } = chat;
    if (error instanceof SessionOver) return;
    toast(describe(error), { tone: "error" });
    await settle();
  };

  /** Say yes or no to a tool; when nothing waits any more, the answer goes on. */
  const decide = useLatest(async (approvalId: string, approved: boolean) => {
    await chat.addToolApprovalResponse({ id: approvalId, approved });
    if (awaitingApproval(chat.lastMessage).length > 0) return;
    const taken = await attempt(() => chat.sendMessage());
    if (!taken) await undoRefused();
  });

  const stop = useLatest(async () => {
    stopping.current = api
      .json("POST", `/api/chat/${id}/stop`)
      .catch((error: unknown) => toast(`Could not stop the answer: ${describe(error)}`, { tone: "error" }));
    await chat.stop();
    await stopping.current;
  });

  const switchTo = useLatest(async (headId: string) => {
    try {
      await api.json("PATCH", `/api/v1/chat/${id}`, { head_id: headId });
      tellChanged(id);
      await settle();
    } catch (error) {
      toast(describe(error), { tone: "error" });
    }
  });

  const loadOlder = useLatest(async () => {
    if (cursor === null || loadingOlder) return;
    setLoadingOlder(true);
    try {
      const path = `/api/v1/chat/${id}?limit=${PAGE}&before=${encodeURIComponent(cursor)}`;
      const page = await api.json<MessagePage>("GET", path, undefined, life.current.signal);
      chat.messages = [...page.messages.map(fromStored), ...chat.messages];
      setCursor(page.next_cursor);
    } catch (error) {
      if (!life.current.signal.aborted) toast(describe(error), { tone: "error" });
    } finally {
      setLoadingOlder(false);
    }
  });

  useEffect(() => {
    if (latest.current.page?.active_run) void settle();
    const back = () => {
      const idle = chat.status === "ready" && chat.messages.length > 0;
      if (document.visibilityState === "visible" && idle) void settle();
    };
    document.addEventListener("visibilitychange", back);
    const unwatch = watchChanges((changed) => changed === id && back());
    return () => {
      unwatch();
      document.removeEventListener("visibilitychange", back);
      life.current.abort();
      void chat.stop();
    };
  }, [chat]);

  const busy = status === "submitted" || status === "streaming";
  return { messages, status, busy, settling, trouble, hasOlder: cursor !== null, loadingOlder, ask, retry, withdraw, edit, regenerate, goOn, stop, settle, switchTo, decide, loadOlder };
}

export type Session = ReturnType<typeof useSession>;
