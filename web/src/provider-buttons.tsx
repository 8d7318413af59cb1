/** Sign in with somebody who knows the person already: a button for each provider. */
import { useEffect, useState } from "react";
import type { Provider } from "@supabase/supabase-js";
import { useAuth } from "./auth";
import { textOf } from "./auth-errors";
import { Button } from "./ui/controls";

// Read when the page is loaded: the way to the sign-in page drops it from the address.
let returnedWith = new URLSearchParams(location.search).get("error_code");

export function ProviderButtons() {
  const { client, config } = useAuth();
  const [chosen, setChosen] = useState<string | null>(null);

  // Whoever comes back with the browser's button finds a page that works.
  useEffect(() => {
    const again = () => setChosen(null);
    addEventListener("pageshow", again);
    return () => removeEventListener("pageshow", again);
  }, []);

  if (config.providers.length === 0) return null;
  const go = async (id: string) => {
    setChosen(id);
    const options = { redirectTo: `${location.origin}/sign-in` };
    const { error } = await client.auth.signInWithOAuth({ provider: id as Provider, options });
    if (error) setChosen(null);
  };
  return (
    <div className="gate-providers">
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
  const [problem] = useState(() => {
    const code = returnedWith;
    returnedWith = null;
    if (code === "email_exists") return "There is already an account with this e-mail that nobody has confirmed. Sign in to it with its password.";
    return code === null ? null : textOf(code);
  });
  useEffect(() => {
    if (problem !== null) history.replaceState(null, "", location.pathname);
  }, [problem]);
  return problem;
}
