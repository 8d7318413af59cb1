/** What each error code of the sign-in service means to a person, and which field it is about. */
import { isAuthError, isAuthRetryableFetchError, isAuthWeakPasswordError } from "@supabase/supabase-js";

export interface AuthProblem {
  text: string;
  field: "email" | "password" | "code" | null;
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
  otp_expired: { text: "This code is wrong, was used already, or is too old. Check it, or ask for a new one.", field: "code" },
  otp_disabled: { text: "There is no account with this e-mail. Create one first.", field: "email", suggest: "sign-up" },
  same_password: { text: "This is your present password. Choose another one.", field: "password" },
  mfa_verification_failed: { text: "This code is wrong. Codes change every 30 seconds: type the one shown now.", field: "code" },
  mfa_challenge_expired: { text: "That took too long. Try again." },
  mfa_factor_not_found: { text: "This second factor was removed. Sign in again." },
  mfa_recovery_codes_locked: { text: "Too many wrong recovery codes. Wait a while, or use your app." },
  too_many_enrolled_mfa_factors: { text: "You have as many second factors as are possible. Remove one first." },
  webauthn_credential_exists: { text: "There is a passkey for this account on this device already." },
  too_many_passkeys: { text: "You have as many passkeys as are possible. Remove one first." },
  email_conflict_identity_not_deletable: { text: "Your e-mail address would be somebody else's without it. Change the address first." },
  mfa_factor_name_conflict: { text: "You have a second factor of this name already. Choose another name." },
  mfa_ip_address_mismatch: { text: "Your network changed meanwhile. Try again." },
  insufficient_aal: { text: "Show your second factor first: sign out, and in again with it." },
  reauthentication_needed: { text: "Your sign-in is a while ago. We sent a code to your e-mail: type it below.", field: "code" },
  reauthentication_not_valid: { text: "This code is wrong or too old.", field: "code" },
  current_password_required: { text: "Type your present password as well.", field: "password" },
  current_password_invalid: { text: "Your present password is not right.", field: "password" },
  single_identity_not_deletable: { text: "This is your only way to sign in. Add another one first." },
  identity_already_exists: { text: "That account there belongs to somebody else here." },
  manual_linking_disabled: { text: "Linking accounts is switched off on this server." },
  passkey_disabled: { text: "Passkeys are switched off on this server." },
  webauthn_verification_failed: { text: "This passkey was not accepted. It may have been removed here." },
  webauthn_credential_not_found: { text: "This passkey is not known here any more." },
  webauthn_challenge_not_found: { text: "That took too long. Try again." },
  webauthn_challenge_expired: { text: "That took too long. Try again." },
  session_expired: { text: "Your session has ended. Sign in again." },
  validation_failed: { text: "Something in the form is not right. Check it and try again." },
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

function isDismissed(error: unknown): boolean {
  const { name, cause } = (error ?? {}) as { name?: string; cause?: { name?: string } };
  return [name, cause?.name].some((one) => one === "NotAllowedError" || one === "AbortError");
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
  // Closed by the person, or refused by the browser without saying why (WebAuthn section 14.5.1).
  if (isDismissed(error)) return { ...problem, text: "That was cancelled, or there is no passkey here. Nothing has changed." };
  if (!isAuthError(error)) return problem;
  const known = error.code ? TEXTS[error.code] : undefined;
  const limited = error.status === 429 ? { retryAfterS: retryAfterS ?? 30 } : {};
  return { ...problem, ...(known ?? { text: error.message || problem.text }), ...limited };
}
