/** The account of the person who is signed in: how they sign in, and what they can take along. */
import { useState } from "react";
import { describe } from "../api";
import { useAuth } from "../auth";
import { Button } from "../ui/controls";
import { saveFile } from "../ui/hooks";
import { toast } from "../ui/toasts";
import { useWorkspace } from "../workspace";
import { EmailPanel, PasswordPanel } from "./credentials";
import { IdentitiesPanel } from "./identities";
import { PasskeysPanel } from "./passkeys";
import { SecondFactorPanel } from "./second-factor";

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
  const { user, api } = useWorkspace();
  const { signOut } = useAuth();
  const [busy, setBusy] = useState(false);

  const download = async () => {
    setBusy(true);
    try {
      const response = await api.fetch("/api/v1/chat/export");
      saveFile(await response.blob(), `chatkeep-${new Date().toISOString().slice(0, 10)}.json`);
    } catch (error) {
      toast(`Could not export your chats: ${describe(error)}`, { tone: "error" });
    } finally {
      setBusy(false);
    }
  };
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
      <div className="panel-row">
        <div>
          <p>Your data</p>
          <p className="field-help">Every chat you have, as one JSON file.</p>
        </div>
        <Button icon="download" busy={busy} onClick={() => void download()}>
          Export all chats
        </Button>
      </div>
    </section>
  );
}

