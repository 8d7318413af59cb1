/** Finds the conversation an address names, then opens it. */
import { useEffect, useState } from "react";
import { ApiError, describe, SessionOver } from "../api";
import { navigate } from "../router";
import { Button, FullPage } from "../ui/controls";
import { useWorkspace } from "../workspace";
import type { MessagePage } from "../wire";
import { ChatView } from "./chat-view";
import { readPage } from "./session";

type Opening = { state: "reading" } | { state: "open"; page: MessagePage | null } | { state: "missing" } | { state: "failed"; text: string };

export function ChatPage({ id, isNew }: { id: string; isNew: boolean }) {
  const { api, drafts } = useWorkspace();
  const [opening, setOpening] = useState<Opening>(isNew ? { state: "open", page: null } : { state: "reading" });
  const [tries, setTries] = useState(0);
  const reading = opening.state === "reading";

  useEffect(() => {
    if (!reading) return;
    const abort = new AbortController();
    Promise.all([readPage(api, id, abort.signal), drafts.open(id)]).then(
      ([page]) => setOpening({ state: "open", page }),
      (error: unknown) => {
        if (abort.signal.aborted || error instanceof SessionOver) return;
        const missing = error instanceof ApiError && (error.status === 403 || error.status === 404);
        setOpening(missing ? { state: "missing" } : { state: "failed", text: describe(error) });
      },
    );
    return () => abort.abort();
  }, [api, drafts, id, reading, tries]);

  const again = () => {
    setOpening({ state: "reading" });
    setTries((count) => count + 1);
  };

  useEffect(() => {
    if (opening.state !== "failed") return;
    addEventListener("online", again);
    return () => removeEventListener("online", again);
  }, [opening.state]);

  switch (opening.state) {
    case "open":
      return <ChatView id={id} page={opening.page} />;
    case "reading":
      return <ReadingChat />;
    case "missing":
      return (
        <FullPage title="This chat is not here" actions={<Button tone="primary" icon="plus" onClick={() => navigate("/")}>New chat</Button>}>
          <p>It was deleted, or it belongs to another account.</p>
        </FullPage>
      );
    case "failed":
      return (
        <FullPage title="This chat could not be opened" actions={<Button tone="primary" icon="refresh" onClick={again}>Try again</Button>}>
          <p>{opening.text}</p>
        </FullPage>
      );
  }
}

function ReadingChat() {
  return (
    <div className="chat" aria-busy="true">
      <p className="visually-hidden" role="status">
        Opening the chat
      </p>
      <div className="chat-scroll">
        <div className="chat-column skeletons" aria-hidden="true">
          <div className="skeleton skeleton-bubble" />
          <div className="skeleton skeleton-line" />
          <div className="skeleton skeleton-line" />
          <div className="skeleton skeleton-line skeleton-short" />
          <div className="skeleton skeleton-bubble skeleton-narrow" />
          <div className="skeleton skeleton-line" />
          <div className="skeleton skeleton-line skeleton-short" />
        </div>
      </div>
    </div>
  );
}
