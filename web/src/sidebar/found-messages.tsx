/** What was said, in any chat, that has the words one looks for. */
import { useEffect, useState } from "react";
import { describe, SessionOver } from "../api";
import { Link } from "../router";
import { Button, Spinner } from "../ui/controls";
import { announce } from "../ui/announce";
import { straight } from "../ui/straight";
import { useWorkspace } from "../workspace";
import type { FoundMessage, FoundMessages as Page } from "../wire";

type Search = { state: "reading" } | { state: "found"; items: FoundMessage[]; cursor: string | null; more: boolean } | { state: "failed"; text: string };

function pathOf(query: string, cursor: string | null): string {
  const parameters = new URLSearchParams({ q: query, limit: "15" });
  if (cursor !== null) parameters.set("cursor", cursor);
  return `/api/v1/search?${parameters}`;
}

export function FoundMessages({ query, onOpen }: { query: string; onOpen: () => void }) {
  const { api } = useWorkspace();
  const [search, setSearch] = useState<Search>({ state: "reading" });
  const [tries, setTries] = useState(0);

  useEffect(() => {
    const abort = new AbortController();
    setSearch({ state: "reading" });
    api.json<Page>("GET", pathOf(query, null), undefined, abort.signal).then(
      ({ found, next_cursor: cursor }) => {
        setSearch({ state: "found", items: found, cursor, more: false });
        announce(found.length === 0 ? "No message was found." : `${found.length}${cursor === null ? "" : " or more"} messages were found.`);
      },
      (error: unknown) => {
        if (!abort.signal.aborted && !(error instanceof SessionOver)) setSearch({ state: "failed", text: describe(error) });
      },
    );
    return () => abort.abort();
  }, [api, query, tries]);

  const more = async () => {
    if (search.state !== "found" || search.cursor === null) return;
    setSearch({ ...search, more: true });
    try {
      const { found, next_cursor: cursor } = await api.json<Page>("GET", pathOf(query, search.cursor));
      setSearch((now) => (now === search || now.state === "found" ? { state: "found", items: [...search.items, ...found], cursor, more: false } : now));
    } catch (error) {
      if (!(error instanceof SessionOver)) setSearch({ state: "failed", text: describe(error) });
    }
  };

  return (
    <nav aria-label="Messages found" aria-busy={search.state === "reading"}>
      <h2>In messages</h2>
      {search.state === "reading" ? (
        <p className="list-none" role="status">
          <Spinner /> Searching
        </p>
      ) : null}
      {search.state === "failed" ? (
        <div className="list-none" role="alert">
          <p>The messages could not be searched. {search.text}</p>
          <Button icon="refresh" onClick={() => setTries(tries + 1)}>
            Try again
          </Button>
        </div>
      ) : null}
      {search.state === "found" && search.items.length === 0 ? <p className="list-none">No message has all of these words.</p> : null}
      {search.state === "found" && search.items.length > 0 ? (
        <ul>
          {search.items.map((item) => (
            <li key={item.message_id} className="item">
              <Link href={`/c/${item.conversation_id}?m=${item.message_id}`} onClick={onOpen} className="found">
                <span className="found-title" dir="auto">{straight(item.title ?? "New chat")}</span>
                <span className="found-passage" dir="auto">
                  {item.role === "user" ? "You: " : ""}
                  <bdi>{item.passage.map((piece, index) => (piece.match ? <mark key={index}>{straight(piece.text)}</mark> : <span key={index}>{straight(piece.text)}</span>))}</bdi>
                </span>
              </Link>
            </li>
          ))}
        </ul>
      ) : null}
      {search.state === "found" && search.cursor !== null ? (
        <div className="list-more">
          <Button busy={search.more} onClick={() => void more()}>
            Show more
          </Button>
        </div>
      ) : null}
    </nav>
  );
}
