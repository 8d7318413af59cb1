/** The account of the person who is signed in: how they sign in, and what they can take along. */
import { useState } from "react";
import { ApiError, describe, SessionOver } from "../api";
import { useAuth } from "../auth";
import { Button, Notice } from "../ui/controls";
import { toast } from "../ui/toasts";
import { useWorkspace } from "../workspace";
import { EmailPanel, PasswordPanel } from "./credentials";
import { IdentitiesPanel } from "./identities";
import { PasskeysPanel } from "./passkeys";
import { SecondFactorPanel } from "./second-factor";
import { ExportRow, ImportRow } from "./your-data";

export function AccountTab() {
  const { user } = useWorkspace();
  return (
    <div className="settings-panels">
      {user.is_anonymous ? null : <SignInPanels />}
      <AccountPanel />
    </div>
  );
}

function SignInPanels() {
  return (
    <>
      <EmailPanel />
      <PasswordPanel />
      <SecondFactorPanel />
      <PasskeysPanel />
      <IdentitiesPanel />
    </>
  );
}

function AccountPanel() {
  const { user } = useWorkspace();
  const { signOut } = useAuth();
  return (
    <section className="panel" aria-labelledby="account">
      <h2 id="account">Account</h2>
      <div className="panel-row">
        <div>
          <p>{user.email || "Signed in"}</p>
          <p className="field-help">Signing out here leaves your other devices signed in.</p>
        </div>
        <Button icon="signOut" onClick={() => void signOut()}>
          Sign out
        </Button>
      </div>
      <ExportRow />
      <ImportRow />
      <EraseRow />
    </section>
  );
}


/** Erasing asks twice, and for a fresh sign-in: nothing brings it back. */
function EraseRow() {
  const { api, conversations, preferences } = useWorkspace();
  const [asking, setAsking] = useState(false);
  const [busy, setBusy] = useState(false);
  const [problem, setProblem] = useState<{ text: string; late: boolean } | null>(null);
  const { signInAgain } = useAuth();

  const erase = async () => {
    setBusy(true);
    setProblem(null);
    try {
      const { conversations: count } = await api.json<{ conversations: number }>("DELETE", "/api/account/data?confirm=erase");
      setAsking(false);
      toast(count === 1 ? "One chat and your settings are erased." : `${count} chats and your settings are erased.`);
      // Read anew, and not joined to the pages that were loaded before.
      await Promise.all([conversations.search(""), preferences.load()]);
    } catch (error) {
      if (error instanceof SessionOver) return;
      const late = error instanceof ApiError && error.code === "step_up_required";
      setProblem({ text: late ? "Your sign-in is too long ago for this." : describe(error), late });
    } finally {
      setBusy(false);
    }
  };
  return (
    <>
      <div className="panel-row">
        <div>
          <p>Erase</p>
          <p className="field-help">Every chat and your settings, at once and for good. Your account stays.</p>
        </div>
        {asking ? null : (
          <Button tone="danger" icon="trash" onClick={() => setAsking(true)}>
            Erase everything
          </Button>
        )}
      </div>
      {problem ? (
        <Notice tone="error" actions={problem.late ? <Button onClick={() => void signInAgain()}>Sign in again</Button> : null}>
          {problem.text}
        </Notice>
      ) : null}
      {asking ? (
        <div className="row" role="group" aria-label="Erase everything?" onKeyDown={(event) => event.key === "Escape" && setAsking(false)}>
          <Button tone="danger" icon="trash" busy={busy} onClick={() => void erase()}>
            Yes, erase everything for good
          </Button>
          <Button autoFocus onClick={() => setAsking(false)}>
            Keep everything
          </Button>
        </div>
      ) : null}
    </>
  );
}
