/** Passkeys: sign-in without a password. */
import { useState, type FormEvent } from "react";
import { useAuth } from "../auth";
import { usePasskeysPossible } from "../sign-in/passkey-button";
import { announce } from "../ui/announce";
import { AskFirst, Button } from "../ui/controls";
import { straight } from "../ui/straight";
import { Told } from "../ui/told";
import { useLocale } from "../workspace";
import { Listing, useListing } from "./listing";

interface Passkey {
  id: string;
  friendly_name?: string | null;
  created_at: string;
}

export function PasskeysPanel() {
  const { client, config } = useAuth();
  const possible = usePasskeysPossible();
  const locale = useLocale();
  const [renaming, setRenaming] = useState<string | null>(null);
  const listing = useListing<Passkey>(() => client.auth.passkey.list());
  const { busy, change } = listing;

  if (!config.passkeys) return null;
  const nameOf = (one: Passkey) => straight(one.friendly_name ?? "") || "Passkey";
  const rename = async (one: Passkey, name: string) => {
    if (await change(() => client.auth.passkey.update({ passkeyId: one.id, friendlyName: name }))) setRenaming(null);
  };
  const remove = async (one: Passkey) => {
    if (await change(() => client.auth.passkey.delete({ passkeyId: one.id }))) announce(`${nameOf(one)} is removed.`);
  };
  const day = new Intl.DateTimeFormat(locale, { dateStyle: "medium" });
  return (
    <section className="panel" aria-labelledby="passkeys">
      <h2 id="passkeys">Passkeys</h2>
      <p className="field-help">Sign in with your finger, your face or a PIN, and no password.</p>
      <Listing
        listing={listing}
        label="Passkeys"
        empty={possible ? "You have no passkey yet." : "You have no passkey, and none can be added at this address or in this browser."}
        row={(one) =>
          renaming === one.id ? (
            <RenameForm name={one.friendly_name || "Passkey"} busy={busy} save={(name) => void rename(one, name)} cancel={() => setRenaming(null)} />
          ) : (
            <>
              <div>
                <p>
                  <Told text={nameOf(one)} />
                </p>
                <p className="field-help">Added {day.format(new Date(one.created_at))}</p>
              </div>
              <Button disabled={busy} aria-label={`Rename ${nameOf(one)}`} onClick={() => setRenaming(one.id)}>
                Rename
              </Button>
              <AskFirst verb="Remove" name={nameOf(one)} disabled={busy} run={() => remove(one)} />
            </>
          )
        }
      />
      {possible ? (
        <div>
          <Button icon="plus" busy={busy} onClick={() => void change(() => client.auth.registerPasskey())}>
            Add a passkey
          </Button>
        </div>
      ) : null}
    </section>
  );
}

function RenameForm({ name, busy, save, cancel }: { name: string; busy: boolean; save: (name: string) => void; cancel: () => void }) {
  const [text, setText] = useState(name);
  const submit = (event: FormEvent) => {
    event.preventDefault();
    save(text.trim());
  };
  return (
    <form className="panel-row-form" onSubmit={submit} onKeyDown={(event) => event.key === "Escape" && cancel()}>
      <input className="input" aria-label="Name of the passkey" autoFocus value={text} onChange={(event) => setText(event.target.value)} />
      <Button type="submit" tone="primary" busy={busy} disabled={text.trim() === ""}>
        Save
      </Button>
      <Button onClick={cancel}>Cancel</Button>
    </form>
  );
}
