/**
 * Calls to our own server, in the name of whoever is signed in.
 *
 * The access token is asked of the auth client for every request, so it is never older than the
 * client's own refresh. A 401 is answered with one refresh and one retry; when that fails too,
 * the session is over and `onExpired` is told which token was refused, as somebody may have
 * signed in anew meanwhile; but not when the session is good and only not fresh or strong
 * enough for what was asked. Being offline is never taken for being signed out.
 */
import { isAuthRetryableFetchError, type SupabaseClient } from "@supabase/supabase-js";

interface FieldProblem {
  field: string;
  message: string;
}

/** An answer that is not 2xx, as the problem body words it. */
export class ApiError extends Error {
  override readonly name = "ApiError";
  readonly status: number;
  readonly code: string;
  readonly retryAfterS: number | null;
  readonly fields: FieldProblem[];
  /** The budget that refused, and when it begins anew; null where none did, or it never does. */
  readonly budget: string | null;
  readonly resetsAt: string | null;

  constructor(status: number, code: string, message: string, retryAfterS: number | null, fields: FieldProblem[], budget: string | null = null, resetsAt: string | null = null) {
    super(message);
    this.status = status;
    this.code = code;
    this.retryAfterS = retryAfterS;
    this.fields = fields;
    this.budget = budget;
    this.resetsAt = resetsAt;
  }
}

/** Nobody is signed in any more. */
export class SessionOver extends Error {
  override readonly name = "SessionOver";
}

type Auth = SupabaseClient["auth"];

export interface Api {
  fetch(input: RequestInfo | URL, init?: RequestInit): Promise<Response>;
  json<T>(method: string, path: string, body?: object, signal?: AbortSignal): Promise<T>;
}

/** The seconds a `Retry-After` header names, in either of its two forms; null without one. */
export function retryAfterOf(headers: Headers): number | null {
  const value = headers.get("retry-after");
  if (value === null) return null;
  const seconds = Number(value);
  if (Number.isFinite(seconds)) return Math.max(1, Math.ceil(seconds));
  const date = Date.parse(value);
  return Number.isNaN(date) ? null : Math.max(1, Math.ceil((date - Date.now()) / 1000));
}

function text(value: unknown): string | null {
  return typeof value === "string" && value !== "" ? value : null;
}

function fieldProblems(value: unknown): FieldProblem[] {
  if (!Array.isArray(value)) return [];
  return value.flatMap((entry: unknown) => {
    const { field, message } = (entry ?? {}) as Record<string, unknown>;
    return typeof field === "string" && typeof message === "string" ? [{ field, message }] : [];
  });
}

export async function problemOf(response: Response): Promise<ApiError> {
  const body = (await response.json().catch(() => ({}))) as Record<string, unknown>;
  const message = text(body.detail) ?? text(body.error) ?? text(body.title) ?? `The server answered ${response.status}.`;
  const code = text(body.code) ?? `http_${response.status}`;
  return new ApiError(response.status, code, message, retryAfterOf(response.headers), fieldProblems(body.errors), text(body.budget), text(body.resets_at));
}

/** Whether *response* refuses the session, rather than asking it for more (RFC 9470). */
function isOver(response: Response): boolean {
  const wanted = response.headers.get("www-authenticate") ?? "";
  return response.status === 401 && !wanted.includes("insufficient_user_authentication");
}

/** Whether *error* means that the request never reached the server or its answer broke off. */
export function isNetworkError(error: unknown): boolean {
  return error instanceof TypeError;
}

/** What to tell a person about *error*. */
export function describe(error: unknown): string {
  if (isNetworkError(error)) {
    return navigator.onLine ? "The server cannot be reached." : "You are offline.";
  }
  if (error instanceof SessionOver) return "Your session has ended. Sign in again.";
  return error instanceof Error && error.message ? error.message : "Something went wrong.";
}

export function createApi(auth: Auth, onExpired: (refused: string | null) => void): Api {
  const over = (refused: string | null): never => {
    onExpired(refused);
    throw new SessionOver("The session is over.");
  };

  const currentToken = async (): Promise<string> => {
    const { data, error } = await auth.getSession();
    if (data.session) return data.session.access_token;
    if (error && isAuthRetryableFetchError(error)) throw new TypeError("network error while refreshing");
    return over(null);
  };

  const refreshedToken = async (refused: string): Promise<string> => {
    const { data, error } = await auth.refreshSession();
    if (data.session) return data.session.access_token;
    if (error && isAuthRetryableFetchError(error)) throw new TypeError("network error while refreshing");
    return over(refused);
  };

  const send = (input: RequestInfo | URL, init: RequestInit, token: string) => {
    const headers = new Headers(init.headers);
    headers.set("authorization", `Bearer ${token}`);
    return fetch(input, { ...init, headers });
  };

  const authorized: Api["fetch"] = async (input, init = {}) => {
    let token = await currentToken();
    let response = await send(input, init, token);
    if (isOver(response)) {
      token = await refreshedToken(token);
      response = await send(input, init, token);
    }
    if (isOver(response)) over(token);
    if (!response.ok) throw await problemOf(response);
    return response;
  };

  return {
    fetch: authorized,
    async json<T>(method: string, path: string, body?: object, signal?: AbortSignal): Promise<T> {
      const init: RequestInit = { method };
      if (signal) init.signal = signal;
      if (body !== undefined) {
        init.headers = { "content-type": "application/json" };
        init.body = JSON.stringify(body);
      }
      const response = await authorized(path, init);
      return (response.status === 204 ? undefined : await response.json()) as T;
    },
  };
}
