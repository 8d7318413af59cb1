/**
 * Tells this page at once when its session was ended somewhere else.
 *
 * One connection for all pages of a browser (they hear of a sign-out from each other), and only
 * while one is visible: a page that comes back asks the server for its chats anyhow.
 */
import { ApiError, isNetworkError, SessionOver, type Api } from "./api";
import { openChannel } from "./channels";

const AGAIN_MS = 1_000;
const LONGEST_PAUSE_MS = 60_000;
const SIGNED_OUT = "event: signed_out";
const TITLED = "event: titled";
const TITLES_CHANGED = "chatkeep:titles";

function pause(ms: number, stopped: AbortSignal): Promise<void> {
  return new Promise((resolve) => {
    const timer = setTimeout(done, ms);
    function done() {
      clearTimeout(timer);
      removeEventListener("online", done);
      stopped.removeEventListener("abort", done);
      resolve();
    }
    addEventListener("online", done);
    stopped.addEventListener("abort", done);
  });
}

/** Read one stream to its end; true when it said that the session has ended. */
async function read(api: Api, stopped: AbortSignal): Promise<boolean> {
  const response = await api.fetch("/api/sessions/watch", { signal: stopped });
  const reader = response.body?.pipeThrough(new TextDecoderStream()).getReader();
  let begun = "";
  for (let part = await reader?.read(); part && !part.done; part = await reader?.read()) {
    const events = (begun + part.value).split("\n\n");
    begun = events.pop() ?? "";
    if (events.some((event) => event.startsWith(SIGNED_OUT))) return true;
    if (events.some((event) => event.startsWith(TITLED))) tellTitles();
  }
  return begun.startsWith(SIGNED_OUT);
}

/** This page has the connection; the browser's other pages hear of it from this one. */
function tellTitles(): void {
  dispatchEvent(new Event(TITLES_CHANGED));
  const pages = openChannel(TITLES_CHANGED);
  pages.postMessage(null);
  pages.close();
}

/** Call *changed* whenever a conversation was given a title, until the returned function is called. */
export function watchTitles(changed: () => void): () => void {
  const pages = openChannel(TITLES_CHANGED);
  pages.addEventListener("message", changed);
  addEventListener(TITLES_CHANGED, changed);
  return () => {
    pages.close();
    removeEventListener(TITLES_CHANGED, changed);
  };
}

async function watch(api: Api, onEnded: () => void, stopped: AbortSignal): Promise<void> {
  for (let failures = 0; !stopped.aborted; ) {
    try {
      // Asked once more, the server says itself that the session is over; then `api` ends it here.
      if (await read(api, stopped)) onEnded();
      else await pause(AGAIN_MS * (1 + Math.random()), stopped);
      failures = 0;
    } catch (error) {
      if (stopped.aborted || error instanceof SessionOver) return;
      if (!(error instanceof ApiError) && !isNetworkError(error)) throw error;
      const wanted = error instanceof ApiError ? (error.retryAfterS ?? 0) * 1000 : 0;
      const wait = Math.min(LONGEST_PAUSE_MS, AGAIN_MS * 2 ** failures);
      failures += 1;
      await pause(Math.max(wanted, wait * (1 + Math.random())), stopped);
    }
  }
}

async function alone(work: () => Promise<void>, stopped: AbortSignal): Promise<void> {
  // Pages on plain http have no locks: then each has a connection of its own.
  if (!navigator.locks) return work();
  try {
    await navigator.locks.request("chatkeep:session-watch", { signal: stopped }, work);
  } catch (error) {
    // So have pages that may keep nothing: the browser denies them locks, too.
    if (!(error instanceof DOMException && error.name === "SecurityError")) throw error;
    await work();
  }
}

/** Watch until the returned function is called. *onEnded*: the session was ended elsewhere. */
export function watchSession(api: Api, onEnded: () => void): () => void {
  let running: AbortController | null = null;
  const follow = () => {
    if (document.visibilityState === "hidden") {
      running?.abort();
      running = null;
    } else if (running === null) {
      const { signal } = (running = new AbortController());
      alone(() => watch(api, onEnded, signal), signal).catch((error: unknown) => {
        if (!signal.aborted) console.info("The session is not watched any more:", error);
      });
    }
  };
  follow();
  document.addEventListener("visibilitychange", follow);
  return () => {
    document.removeEventListener("visibilitychange", follow);
    running?.abort();
  };
}
