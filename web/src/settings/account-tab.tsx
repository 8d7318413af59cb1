/** The account of the person who is signed in: how they sign in, and what they can take along. */
import { useState } from "react";
import { ApiError, describe, SessionOver, type Api } from "../api";
import { useAuth } from "../auth";
import { Button, Notice } from "../ui/controls";
import { toast } from "../ui/toasts";
import { useWorkspace } from "../workspace";
import { EmailPanel, PasswordPanel } from "./credentials";
import { IdentitiesPanel } from "./identities";
import { PasskeysPanel } from "./passkeys";
import { SecondFactorPanel } from "./second-factor";
import { ExportRow, ImportRow, ProgressBar, type Progress } from "./your-data";

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


const ERASED_TOGETHER = 200;

/** Erase everything, a part at a time, telling how much of it is gone; returns how many chats that were. */
async function eraseAll(api: Api, tell: (progress: Progress) => void): Promise<number> {
  for (let done = 0; ; ) {
    const path = `/api/account/data?confirm=erase&at_most=${ERASED_TOGETHER}`;
    const { conversations, left } = await api.json<{ conversations: number; left: number }>("DELETE", path);
    done += conversations;
    if (left === 0) return done;
    tell({ done, total: done + left });
  }
}

/** Erasing asks twice, and for a fresh sign-in: nothing brings it back. */
function EraseRow() {
  const { api, conversations, preferences } = useWorkspace();
  const [asking, setAsking] = useState(false);
  const [busy, setBusy] = useState(false);
  const [progress, setProgress] = useState<Progress | null>(null);
  const [problem, setProblem] = useState<{ text: string; late: boolean } | null>(null);
  const { signInAgain } = useAuth();

  const erase = async () => {
    setBusy(true);
    setProblem(null);
    try {
      const count = await eraseAll(api, setProgress);
      setAsking(false);
      toast(count === 1 ? "One chat and your settings are erased." : `${count} chats and your settings are erased.`);
      // Read anew, and not joined to the pages that were loaded before.
      await Promise.all([conversations.search(""), preferences.load()]);
    } catch (error) {
      if (error instanceof SessionOver) return;
      const late = error instanceof ApiError && error.code === "step_up_required";
      setProblem({ text: describe(error), late });
    } finally {
      setBusy(false);
      setProgress(null);
    }
  };
  return (
    <>
      <div className="panel-row">
        <div>
          <p>Erase</p>
          <p className="field-help">Every chat and your settings, at once and for good. Your account stays.</p>
          {progress === null ? null : <ProgressBar label="Erasing" progress={progress} />}
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
          {busy ? null : (
            <Button autoFocus onClick={() => setAsking(false)}>
              Keep everything
            </Button>
          )}
        </div>
      ) : null}
    </>
  );
}
