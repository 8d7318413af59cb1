/** A router for a handful of pages, on the history API. */
import { useSyncExternalStore, type AnchorHTMLAttributes, type MouseEvent } from "react";

export type SettingsTab = "general" | "account" | "devices" | "keys" | "usage";

export type SignInMode = "password" | "sign-up" | "mail" | "forgot";

const MODES: Record<string, SignInMode> = { "sign-up": "sign-up", mail: "mail", forgot: "forgot" };

export type Route =
  | { page: "chat"; id: string | null }
  | { page: "settings"; tab: SettingsTab }
  /** *path*: what follows `/admin/`, as it stands in the address. */
  | { page: "admin"; path: string }
  | { page: "sign-in"; mode: SignInMode }
  /** Where the link for a forgotten password leads, with somebody signed in by it. */
  | { page: "new-password" }
  | { page: "missing" };

const CHANGED = "chatkeep:navigated";

function parseRoute(url: URL): Route {
  if (url.pathname === "/") return { page: "chat", id: null };
  if (url.pathname === "/new-password") return { page: "new-password" };
  if (url.pathname === "/settings") return { page: "settings", tab: "general" };
  if (url.pathname === "/settings/account") return { page: "settings", tab: "account" };
  if (url.pathname === "/settings/devices") return { page: "settings", tab: "devices" };
  if (url.pathname === "/settings/keys") return { page: "settings", tab: "keys" };
  if (url.pathname === "/settings/usage") return { page: "settings", tab: "usage" };
  if (url.pathname === "/admin" || url.pathname.startsWith("/admin/")) return { page: "admin", path: url.pathname.slice("/admin/".length) };
  if (url.pathname === "/sign-up") return { page: "sign-in", mode: "sign-up" };
  if (url.pathname === "/sign-in") {
    return { page: "sign-in", mode: MODES[url.searchParams.get("mode") ?? ""] ?? "password" };
  }
  const id = /^\/c\/([A-Za-z0-9_-]{1,64})$/.exec(url.pathname)?.[1];
  return id ? { page: "chat", id } : { page: "missing" };
}

export function navigate(path: string, options: { replace?: boolean } = {}): void {
  if (path === location.pathname + location.search) return;
  if (options.replace) history.replaceState(null, "", path);
  else history.pushState(null, "", path);
  dispatchEvent(new Event(CHANGED));
}

function subscribe(listener: () => void): () => void {
  addEventListener("popstate", listener);
  addEventListener(CHANGED, listener);
  return () => {
    removeEventListener("popstate", listener);
    removeEventListener(CHANGED, listener);
  };
}

export function useRoute(): Route {
  return parseRoute(new URL(useSyncExternalStore(subscribe, () => location.href)));
}

/** The message that the address names beside its chat, if any. */
export function useNamedMessage(): string | null {
  return new URL(useSyncExternalStore(subscribe, () => location.href)).searchParams.get("m");
}

type LinkProps = AnchorHTMLAttributes<HTMLAnchorElement> & { href: string };

/** A link within the app; new-tab clicks stay the browser's. */
export function Link({ href, onClick, ...rest }: LinkProps) {
  const follow = (event: MouseEvent<HTMLAnchorElement>) => {
    onClick?.(event);
    const plain = event.button === 0 && !event.metaKey && !event.ctrlKey && !event.shiftKey && !event.altKey;
    if (event.defaultPrevented || !plain) return;
    event.preventDefault();
    navigate(href);
  };
  return <a href={href} onClick={follow} {...rest} />;
}
