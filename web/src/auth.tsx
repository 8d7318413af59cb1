/**
 * Who is signed in, as the unmodified Supabase client sees it.
 *
 * An expired session and a sign-out on purpose look different to a person: the first asks to
 * sign in again and keeps what was typed, the second forgets it.
 */
import { createClient, type Session, type SupabaseClient, type User } from "@supabase/supabase-js";
import { createContext, useCallback, useContext, useEffect, useMemo, useRef, useState, type ReactNode } from "react";
import { createApi, retryAfterOf, type Api } from "./api";
import { inOurTime } from "./clock";
import { forgetDrafts } from "./drafts";
import { tellLeaving, watchLeaving } from "./elsewhere";
import { navigate } from "./router";
import { watchSession } from "./session-watch";
import { forSessions, read } from "./storage";
import type { ServerConfig } from "./wire";

/** How somebody who was signed in came to be signed out. */
export type SignedOutNotice = "left" | "again" | "expired" | "too-late" | "ended-elsewhere" | "not-revoked";

/** What is asked of somebody before their chats open: to show their second factor, or to get one. */
type Need = "second-factor" | "enrolment";

type AuthState =
  | { status: "loading" }
  /** There is a session, but it needs a refresh and the server is away. */
  | { status: "unreachable" }
  | { status: "signed-out"; notice: SignedOutNotice | null }
  | { status: "signed-in"; user: User; needs: Need | null };

interface AuthContext {
  state: AuthState;
  config: ServerConfig;
  api: Api;
  client: SupabaseClient;
  /** The wait the sign-in service asked for with its last 429. */
  lastRetryAfterS: () => number | null;
  signOut: () => Promise<void>;
  /** Ask for a fresh sign-in, and come back to this page. What was typed is kept. */
  signInAgain: () => Promise<void>;
}

const SESSION_KEY = "chatkeep:session";

const Context = createContext<AuthContext | null>(null);

export function useAuth(): AuthContext {
  const context = useContext(Context);
  if (!context) throw new Error("useAuth outside AuthProvider");
  return context;
}

/** The user, in pages that are only shown to somebody signed in. */
export function useUser(): User {
  const { state } = useAuth();
  if (state.status !== "signed-in") throw new Error("useUser while signed out");
  return state.user;
}

function connect(config: ServerConfig, onLimited: (seconds: number | null) => void): SupabaseClient {
  return createClient(location.origin, config.publishable_key, {
    // With PKCE an address alone signs nobody in: this browser must have begun the flow.
    auth: { storage: forSessions, storageKey: SESSION_KEY, flowType: "pkce", detectSessionInUrl: true, experimental: { passkey: true, recoveryCodes: true } },
    global: {
      fetch: async (input, init) => {
        const response = await fetch(input, init);
        if (response.status === 429) onLimited(retryAfterOf(response.headers));
        return inOurTime(response);
      },
    },
  });
}

/** What *session* owes: what its person has not shown, or what they must have and have not. */
function needsOf(session: Session): Need | null {
  const { aal, next_aal: owed } = claimsOf(session.access_token);
  if (aal === "aal2") return null;
  if (session.user.factors?.some((factor) => factor.status === "verified")) return "second-factor";
  return owed === undefined ? null : "enrolment";
}

/** What an access token of ours says of its level; what that is worth the server decides. */
function claimsOf(token: string): { aal?: string; next_aal?: string } {
  try {
    return JSON.parse(atob((token.split(".")[1] ?? "").replace(/-/g, "+").replace(/_/g, "/"))) as { aal?: string; next_aal?: string };
  } catch {
    return {};
  }
}

/** The access token this browser keeps; another window may have put it there. */
function storedToken(): string | null {
  try {
    return (JSON.parse(read(SESSION_KEY) ?? "null") as Session | null)?.access_token ?? null;
  } catch {
    return null;
  }
}

export function AuthProvider({ config, children }: { config: ServerConfig; children: ReactNode }) {
  const [state, setState] = useState<AuthState>({ status: "loading" });
  const limited = useRef<number | null>(null);
  const onPurpose = useRef<"left" | "again" | null>(null);
  const endedElsewhere = useRef(false);
  const userId = useRef<string | null>(null);
  const hadSession = useRef(read(SESSION_KEY) !== null);

  const client = useMemo(() => connect(config, (seconds) => (limited.current = seconds)), [config]);

  const showSignedOut = useCallback(() => {
    const over = endedElsewhere.current ? "ended-elsewhere" : "expired";
    const notice = onPurpose.current ?? (hadSession.current ? over : null);
    hadSession.current = false;
    userId.current = null;
    setState((before) => {
      if (before.status === "signed-out") return before;
      const owing = before.status === "signed-in" && before.needs !== null;
      return { status: "signed-out", notice: owing && notice === "expired" ? "too-late" : notice };
    });
  }, []);

  useEffect(() => {
    const { data } = client.auth.onAuthStateChange((event, session) => {
      if (session) {
        userId.current = session.user.id;
        hadSession.current = true;
        onPurpose.current = null;
        endedElsewhere.current = false;
        const needs = needsOf(session);
        setState((before) =>
          before.status === "signed-in" && before.user.id === session.user.id && before.user.email === session.user.email && before.needs === needs
            ? before
            : { status: "signed-in", user: session.user, needs },
        );
        if (event === "PASSWORD_RECOVERY" && location.pathname === "/sign-in") navigate("/new-password", { replace: true });
        return;
      }
      if (event === "INITIAL_SESSION" && read(SESSION_KEY) !== null) {
        setState({ status: "unreachable" });
        return;
      }
      // Another window tells of the session before the one that is there by now.
      if (event !== "SIGNED_OUT" || storedToken() === null) showSignedOut();
    });
    return () => data.subscription.unsubscribe();
  }, [client, showSignedOut]);

  useEffect(
    () =>
      watchLeaving(() => {
        onPurpose.current = "left";
        // That window cannot reach what only this one remembers.
        if (userId.current) forgetDrafts(userId.current);
      }),
    [],
  );

  const api = useMemo(() => {
    const onExpired = (refused: string | null) => {
      const stored = storedToken();
      if (stored === null) showSignedOut();
      else if (stored === refused) void client.auth.signOut({ scope: "local" });
    };
    return createApi(client.auth, onExpired);
  }, [client, showSignedOut]);

  const signedIn = state.status === "signed-in";
  useEffect(() => {
    if (signedIn) return watchSession(api, () => (endedElsewhere.current = true));
  }, [signedIn, api]);

  const value = useMemo<AuthContext>(() => {
    return {
      state,
      config,
      client,
      api,
      lastRetryAfterS: () => limited.current,
      signOut: async () => {
        onPurpose.current = "left";
        tellLeaving();
        if (userId.current) forgetDrafts(userId.current);
        const { error } = await client.auth.signOut({ scope: "local" });
        if (error) setState({ status: "signed-out", notice: "not-revoked" });
      },
      signInAgain: async () => {
        onPurpose.current = "again";
        const { error } = await client.auth.signOut({ scope: "local" });
        if (error) setState({ status: "signed-out", notice: "again" });
      },
    };
  }, [state, config, client, api]);

  return <Context value={value}>{children}</Context>;
}
