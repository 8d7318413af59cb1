/** The frame around every signed-in page: sidebar, top bar, shortcuts. */
import "./no-eval";
import { lazy, Suspense, useEffect, useRef, useState } from "react";
import { flushSync } from "react-dom";
import { ChatPage } from "./chat/chat-page";
import { ModelPicker } from "./chat/model-picker";
import { newId } from "./ids";
import { partOf } from "./newest";
import { navigate, useRoute, type Route } from "./router";
import { Sidebar } from "./sidebar/sidebar";
import { read, write } from "./storage";
import { Button, FullPage, IconButton, Spinner } from "./ui/controls";
import { isTouch, useLatest, useMedia } from "./ui/hooks";

const SettingsPage = lazy(() => partOf(() => import("./settings/settings-page")));
const AdminPage = lazy(() => partOf(() => import("./admin/admin-page")));
const HIDDEN_KEY = "chatkeep:sidebar-hidden";

/**
 * The conversation that is open. A new one gets its id before it has an address, and keeps it when
 * the address appears; from then on the front page stands for the next new one.
 */
function useOpenChat(route: Route) {
  const [next, setNext] = useState(() => ({ id: newId(), addressed: false }));
  if (route.page !== "chat") return { id: null, isNew: false };
  if (route.id === next.id && !next.addressed) setNext({ ...next, addressed: true });
  if (route.id === null && next.addressed) setNext({ id: newId(), addressed: false });
  return { id: route.id ?? next.id, isNew: route.id === null };
}

export default function Shell() {
  const route = useRoute();
  const narrow = useMedia("(max-width: 879px)");
  const [hidden, setHidden] = useState(read(HIDDEN_KEY) === "1");
  const [drawer, setDrawer] = useState(false);
  const chat = useOpenChat(route);
  const toggle = useRef<HTMLButtonElement>(null);
  const shown = narrow ? drawer : !hidden;

  const setShown = (value: boolean) => {
    if (narrow) setDrawer(value);
    else {
      setHidden(!value);
      write(HIDDEN_KEY, value ? "" : "1");
    }
  };

  const newChat = useLatest(() => {
    setDrawer(false);
    if (route.page === "chat" && route.id === null) document.querySelector<HTMLElement>("#message")?.focus();
    else navigate("/");
  });

  const search = useLatest(() => {
    // Shown before the next key is pressed: it belongs to the search.
    flushSync(() => setShown(true));
    document.querySelector<HTMLInputElement>("#search")?.select();
  });

  useEffect(() => {
    const shortcut = (event: KeyboardEvent) => {
      if (!(event.ctrlKey || event.metaKey) || event.altKey) return;
      const key = event.key.toLowerCase();
      if (key === "k" && !event.shiftKey) search();
      else if (key === "o" && event.shiftKey) newChat();
      else return;
      event.preventDefault();
    };
    addEventListener("keydown", shortcut);
    return () => removeEventListener("keydown", shortcut);
  }, [search, newChat]);

  const drawerOpen = narrow && drawer;
  useEffect(() => {
    if (!drawerOpen) return;
    document.querySelector<HTMLElement>("#new-chat")?.focus();
    const escape = (event: KeyboardEvent) => {
      if (event.key !== "Escape") return;
      event.stopPropagation();
      flushSync(() => setDrawer(false));
      // Possible only now: behind an open drawer nothing takes the focus.
      toggle.current?.focus();
    };
    // Above the page's own Esc, below that of an open menu.
    document.addEventListener("keydown", escape);
    return () => document.removeEventListener("keydown", escape);
  }, [drawerOpen]);

  return (
    <div className={shown ? "shell" : "shell shell-wide"}>
      <a
        className="skip-link"
        href="#main"
        onClick={(event) => {
          event.preventDefault();
          (document.querySelector<HTMLElement>("#message") ?? document.querySelector<HTMLElement>("#main"))?.focus();
        }}
      >
        Skip to the conversation
      </a>
      {drawerOpen ? <div className="backdrop" onClick={() => setDrawer(false)} /> : null}
      <aside className={shown ? "sidebar" : "sidebar is-hidden"} aria-label="Chats and account" inert={!shown}>
        <Sidebar
          onNewChat={newChat}
          onNavigate={() => setDrawer(false)}
          onClose={() => {
            setShown(false);
            requestAnimationFrame(() => toggle.current?.focus());
          }}
        />
      </aside>
      <main id="main" tabIndex={-1} inert={drawerOpen}>
        <header className="top">
          {shown && !narrow ? null : <IconButton ref={toggle} label="Open sidebar" icon={narrow ? "menu" : "sidebar"} aria-expanded={shown} onClick={() => setShown(true)} />}
          {route.page === "chat" ? <ModelPicker /> : null}
          <span className="top-space" />
          {narrow || hidden ? <IconButton label="New chat" icon="plus" onClick={newChat} /> : null}
        </header>
        <Page route={route} chat={chat} />
      </main>
    </div>
  );
}

function Page({ route, chat }: { route: Route; chat: { id: string | null; isNew: boolean } }) {
  if (route.page === "chat" && chat.id) return <ChatPage key={chat.id} id={chat.id} isNew={chat.isNew} />;
  if (route.page === "settings") {
    return (
      <Suspense fallback={<div className="full-page"><Spinner /></div>}>
        <SettingsPage tab={route.tab} />
      </Suspense>
    );
  }
  if (route.page === "admin") {
    return (
      <Suspense fallback={<div className="full-page"><Spinner /></div>}>
        <AdminPage path={route.path} />
      </Suspense>
    );
  }
  return (
    <FullPage title="There is nothing here" actions={<Button tone="primary" autoFocus={!isTouch()} onClick={() => navigate("/")}>Go to your chats</Button>} />
  );
}
