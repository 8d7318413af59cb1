/** The list of conversations, the way to a new one, and the account. */
import { useEffect, useMemo, useRef, useState } from "react";
import { useAdministrator } from "../admin/access";
import { useAuth } from "../auth";
import { describe } from "../api";
import { Link, navigate, useRoute } from "../router";
import { useStore } from "../stores";
import { Button, IconButton, Spinner } from "../ui/controls";
import { isComposing } from "../ui/composing";
import { Icon, Mark } from "../ui/icons";
import { Menu } from "../ui/menu";
import { useLatest } from "../ui/hooks";
import { straight } from "../ui/straight";
import { Told } from "../ui/told";
import { toast } from "../ui/toasts";
import { useLocale, useWorkspace } from "../workspace";
import { ConversationItem } from "./conversation-item";
import { groupByDay } from "./days";
import { FoundMessages } from "./found-messages";

const SEARCH_PAUSE_MS = 200;

interface SidebarProps {
  onNewChat: () => void;
  onNavigate: () => void;
  onClose: () => void;
}

export function Sidebar({ onNewChat, onNavigate, onClose }: SidebarProps) {
  return (
    <>
      <div className="sidebar-head">
        <Link href="/" className="brand" onClick={onNavigate}>
          <Mark size={26} />
          <span>Chatkeep</span>
        </Link>
        <IconButton label="Close sidebar" icon="sidebar" onClick={onClose} />
      </div>
      <button id="new-chat" type="button" className="new-chat" onClick={onNewChat} title="New chat (Ctrl+Shift+O)" aria-keyshortcuts="Control+Shift+O Meta+Shift+O">
        <Icon name="plus" />
        <span>New chat</span>
      </button>
      <Search />
      <ConversationList onOpen={onNavigate} />
      <Account onNavigate={onNavigate} />
    </>
  );
}

function Search() {
  const { conversations } = useWorkspace();
  const { query, status } = useStore(conversations);
  const [text, setText] = useState(query);

  useEffect(() => {
    if (text === conversations.value.query) return;
    const timer = setTimeout(() => void conversations.search(text.trim()), SEARCH_PAUSE_MS);
    return () => clearTimeout(timer);
  }, [text, conversations]);

  return (
    <div className="search" role="search" aria-label="Chats">
      <Icon name="search" size={16} />
      <input
        id="search"
        type="text"
        inputMode="search"
        autoComplete="off"
        aria-label="Search chats"
        aria-keyshortcuts="Control+K Meta+K"
        placeholder="Search chats"
        value={text}
        onChange={(event) => setText(event.target.value)}
        onKeyDown={(event) => {
          if (event.key !== "Escape" || text === "" || isComposing(event.nativeEvent)) return;
          event.stopPropagation();
          setText("");
        }}
      />
      {query !== "" && status === "loading" ? <Spinner /> : null}
      {text === "" ? <kbd aria-hidden="true">{navigator.platform.startsWith("Mac") ? "⌘K" : "Ctrl K"}</kbd> : <IconButton label="Clear search" icon="close" size={14} onClick={() => setText("")} />}
    </div>
  );
}

function ConversationList({ onOpen }: { onOpen: () => void }) {
  const { conversations } = useWorkspace();
  const state = useStore(conversations);
  const locale = useLocale();
  const route = useRoute();
  const current = route.page === "chat" ? route.id : null;
  const open = useLatest(onOpen);
  const groups = useMemo(() => groupByDay(state.items, new Date(), locale), [state.items, locale]);

  if (state.status === "loading" && state.items.length === 0 && state.query === "") return <ListSkeleton />;
  if (state.status === "error" && state.items.length === 0) {
    return (
      <div className="list-state" role="alert">
        <p>Your chats could not be loaded. {describe(state.error)}</p>
        <Button icon="refresh" onClick={() => void conversations.search(state.query)}>
          Try again
        </Button>
      </div>
    );
  }
  if (state.items.length === 0 && state.query === "") {
    return (
      <div className="list-state">
        <p>Your chats will be listed here.</p>
      </div>
    );
  }
  const titled = (
    <nav className={state.query === "" ? "list" : undefined} aria-label="Chats">
      {state.items.length === 0 && state.status !== "loading" ? <p className="list-none">
          No chat is titled like “<Told text={state.query} />”.
        </p> : null}
      {groups.map((group) => (
        <section key={group.label} aria-label={group.label}>
          <h2>{group.label}</h2>
          <ul>
            {group.items.map((item) => (
              <ConversationItem key={item.id} item={item} current={item.id === current} onOpen={open} />
            ))}
          </ul>
        </section>
      ))}
      {state.cursor === null ? null : <More busy={state.loadingMore} load={() => conversations.loadMore()} />}
    </nav>
  );
  if (state.query === "") return titled;
  return (
    <div className="list">
      {titled}
      <FoundMessages key={state.query} query={state.query} onOpen={onOpen} />
    </div>
  );
}

function More({ busy, load }: { busy: boolean; load: () => Promise<void> }) {
  const line = useRef<HTMLDivElement>(null);
  const more = useLatest(() => void load().catch((error: unknown) => toast(describe(error), { tone: "error" })));

  useEffect(() => {
    const node = line.current;
    if (!node || busy) return;
    const observer = new IntersectionObserver((entries) => {
      if (entries.some((entry) => entry.isIntersecting)) more();
    });
    observer.observe(node);
    return () => observer.disconnect();
  }, [busy, more]);

  return (
    <div className="list-more" ref={line}>
      <Button busy={busy} onClick={more}>
        Show more
      </Button>
    </div>
  );
}

function ListSkeleton() {
  return (
    <div className="list" aria-busy="true">
      <p className="visually-hidden" role="status">
        Loading your chats
      </p>
      {[80, 62, 71, 45, 68].map((width) => (
        <div key={width} className="skeleton skeleton-item" style={{ width: `${width}%` }} aria-hidden="true" />
      ))}
    </div>
  );
}

function Account({ onNavigate }: { onNavigate: () => void }) {
  const { user, preferences, api } = useWorkspace();
  const { signOut } = useAuth();
  const administrator = useAdministrator(api);
  const name = straight(useStore(preferences)?.display_name ?? "").trim() || user.email || "Your account";
  const go = (path: string) => () => {
    onNavigate();
    navigate(path);
  };
  return (
    <div className="account">
      <Menu
        label={`Account menu: ${name}`}
        className="account-button"
        actions={[
          { label: "Settings", icon: "settings", run: go("/settings") },
          ...(administrator ? [{ label: "Administration", icon: "chart" as const, run: go("/admin") }] : []),
          { label: "API documentation", icon: "book", run: () => location.assign("/docs") },
          { label: "Sign out", icon: "signOut", run: () => void signOut() },
        ]}
      >
        {/* A sign, and no part of the name: what is seen of that is also said. */}
        <span className="avatar" data-initial={[...name][0]?.toUpperCase()} aria-hidden="true" />
        <span className="account-name">{name}</span>
        <Icon name="more" />
      </Menu>
    </div>
  );
}
