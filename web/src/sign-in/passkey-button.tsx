/** Sign in with a passkey, where the server, the browser and the address allow it. */
import { useState } from "react";
import { useAuth } from "../auth";
import { Button } from "../ui/controls";
import { ProblemNotice, useProblem } from "./gate";

/** Passkeys belong to a domain, so none works on a page that is reached by a network address. */
export function usePasskeysPossible(): boolean {
  const { config } = useAuth();
  const byAddress = /^[\d.]+$|^\[/.test(location.hostname);
  return config.passkeys && !byAddress && "PublicKeyCredential" in window;
}

export function PasskeyButton() {
  const { client } = useAuth();
  const possible = usePasskeysPossible();
  const [busy, setBusy] = useState(false);
  const { problem, waitS, fail, clear } = useProblem();

  if (!possible) return null;
  const go = async () => {
    setBusy(true);
    clear();
    const { error } = await client.auth.signInWithPasskey();
    setBusy(false);
    if (error) fail(error);
  };
  return (
    <>
      <ProblemNotice problem={problem} waitS={waitS} />
      <Button className="button-wide" icon="key" busy={busy} disabled={waitS > 0} onClick={() => void go()}>
        Sign in with a passkey
      </Button>
    </>
  );
}
