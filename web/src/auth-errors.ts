/** What each error code of the sign-in service means to a person, and which field it is about. */
import { isAuthError, isAuthRetryableFetchError, isAuthWeakPasswordError } from "@supabase/supabase-js";

export interface AuthProblem {
  text: string;
  field: "email" | "password" | null;
  retryAfterS: number | null;
  /** The other form would work: offer it. */
  suggest: "sign-in" | "sign-up" | null;
}

const TEXTS: Record<string, Partial<AuthProblem> & { text: string }> = {
  invalid_credentials: { text: "That e-mail and password do not match. Check both and try again." },
  user_already_exists: { text: "There is already an account with this e-mail.", field: "email", suggest: "sign-in" },
  email_exists: { text: "There is already an account with this e-mail.", field: "email", suggest: "sign-in" },
  email_address_invalid: { text: "This does not look like an e-mail address.", field: "email" },
  email_address_not_authorized: { text: "This e-mail address may not be used here.", field: "email" },
  email_not_confirmed: { text: "Confirm your e-mail first: open the link we sent you.", field: "email" },
  weak_password: { text: "Choose a longer, less common password.", field: "password" },
  signup_disabled: { text: "New accounts are switched off on this server." },
  email_provider_disabled: { text: "Signing in with e-mail is switched off on this server." },
  provider_email_needs_verification: { text: "Verify your e-mail address there first, then sign in again." },
  bad_oauth_state: { text: "That took too long, or was begun in another browser. Try again." },
  flow_state_already_used: { text: "That sign-in was completed already. Try again." },
  bad_oauth_callback: { text: "You were not signed in there. Try again, or choose another way." },
  user_banned: { text: "This account is blocked. Ask whoever runs this server." },
  user_not_found: { text: "That account does not exist any more." },
  over_request_rate_limit: { text: "Too many attempts." },
  over_email_send_rate_limit: { text: "Too many e-mails were asked for." },
  captcha_failed: { text: "The check that you are a person failed. Try again." },
  request_timeout: { text: "The server took too long. Try again." },
};

const WEAK: Record<string, string> = {
  length: "Choose a longer password.",
  characters: "Use a wider mix of characters.",
  pwned: "This password is known from a leak. Choose another one.",
};

function weakPassword(reasons: readonly string[], message: string): string {
  const known = reasons.flatMap((reason) => WEAK[reason] ?? []);
  return message || known.join(" ") || "Choose a longer, less common password.";
}

/** What a code means to a person, for those that come in an address. */
export function textOf(code: string): string {
  return TEXTS[code]?.text ?? "Something went wrong. Try again.";
}

export function authProblem(error: unknown, retryAfterS: number | null): AuthProblem {
  const problem: AuthProblem = { text: "Something went wrong. Try again.", field: null, retryAfterS: null, suggest: null };
  if (isAuthRetryableFetchError(error)) {
    const away = error.status ? "The server is busy. Try again shortly." : "The server cannot be reached.";
    return { ...problem, text: navigator.onLine ? away : "You are offline. Try again when you are back." };
  }
  if (isAuthWeakPasswordError(error)) {
    return { ...problem, text: weakPassword(error.reasons, error.message), field: "password" };
  }
  if (!isAuthError(error)) return problem;
  const known = error.code ? TEXTS[error.code] : undefined;
  const limited = error.status === 429 ? { retryAfterS: retryAfterS ?? 30 } : {};
  return { ...problem, ...(known ?? { text: error.message || problem.text }), ...limited };
}
