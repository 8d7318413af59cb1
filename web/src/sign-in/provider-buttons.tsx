/** Sign in with somebody who knows the person already: a button for each provider. */
import { Children, useEffect, useState, type ReactNode } from "react";
import type { Provider } from "@supabase/supabase-js";
import { useAuth } from "../auth";
import { textOf } from "../auth-errors";
import { usePasskeysPossible } from "./passkey-button";
import { Button } from "../ui/controls";

const BEGUN_ELSEWHERE = "begun_elsewhere";

// Read when the page is loaded: the way to the sign-in page drops it from the address.
const query = new URLSearchParams(location.search);
let returnedWith = query.get("error_code") ?? (query.has("code") ? BEGUN_ELSEWHERE : null);

/** *children* are other ways that need no form. */
export function ProviderButtons({ children }: { children: ReactNode }) {
  const { client, config } = useAuth();
  const [chosen, setChosen] = useState<string | null>(null);

  // Whoever comes back with the browser's button finds a page that works.
  useEffect(() => {
    const again = () => setChosen(null);
    addEventListener("pageshow", again);
    return () => removeEventListener("pageshow", again);
  }, []);

  const passkeys = usePasskeysPossible();

  if (config.providers.length === 0 && !(passkeys && Children.count(children) > 0)) return null;
  const go = async (id: string) => {
    setChosen(id);
    const options = { redirectTo: `${location.origin}/sign-in` };
    const { error } = await client.auth.signInWithOAuth({ provider: id as Provider, options });
    if (error) setChosen(null);
  };
  return (
    <div className="gate-providers">
      {children}
      {config.providers.map(({ id, title }) => (
        <Button key={id} className="button-wide" busy={chosen === id} disabled={chosen !== null} onClick={() => void go(id)}>
          Continue with {title}
        </Button>
      ))}
    </div>
  );
}

/** What went wrong at a provider, said in the address that the browser came back with. */
export function useReturnProblem(): string | null {
  const { state } = useAuth();
  const [problem] = useState(() => {
    const code = returnedWith;
    returnedWith = null;
    // Without a notice they were not signed in before: the code that they came with was worth nothing.
    const worthless = state.status === "signed-out" && state.notice === null;
    if (code === BEGUN_ELSEWHERE && !worthless) return null;
    if (code === BEGUN_ELSEWHERE) return "That link was opened in another browser than the one that asked for it, or too late. Sign in here, or type the code of the e-mail where you asked for it.";
    if (code === "email_exists") return "There is already an account with this e-mail that nobody has confirmed. Sign in to it with its password.";
    return code === null ? null : textOf(code);
  });
  useEffect(() => {
    if (problem !== null) history.replaceState(null, "", location.pathname);
  }, [problem]);
  return problem;
}
