/** With whom the person can sign in here, beside their password. */
import { useAuth } from "../auth";
import type { Provider, UserIdentity } from "@supabase/supabase-js";
import { announce } from "../ui/announce";
import { AskFirst, Button } from "../ui/controls";
import { Told } from "../ui/told";
import { useWorkspace } from "../workspace";
import { Listing, useListing } from "./listing";

export function IdentitiesPanel() {
  const { client, config } = useAuth();
  const { user } = useWorkspace();
  const listing = useListing(async () => {
    const { data, error } = await client.auth.getUserIdentities();
    return { data: data?.identities ?? null, error };
  });
  const { items, busy, change } = listing;

  const others = items?.filter((one) => one.provider !== "email").length ?? 0;
  if (config.providers.length === 0 && others === 0) return null;
  const titleOf = (provider: string) => (provider === "email" ? "E-mail" : (config.providers.find((one) => one.id === provider)?.title ?? provider));
  const missing = config.providers.filter((one) => !items?.some((item) => item.provider === one.id));
  const link = (id: string) =>
    change(() => client.auth.linkIdentity({ provider: id as Provider, options: { redirectTo: `${location.origin}/settings/account` } }));
  const unlink = async (one: UserIdentity) => {
    if (await change(() => client.auth.unlinkIdentity(one))) announce(`${titleOf(one.provider)} is unlinked.`);
  };
  return (
    <section className="panel" aria-labelledby="identities">
      <h2 id="identities">Linked accounts</h2>
      <p className="field-help">Where else you can sign in from.</p>
      <Listing
        listing={listing}
        label="Linked accounts"
        empty="None yet."
        row={(one) => (
          <>
            <div>
              <p>{titleOf(one.provider)}</p>
              <p className="field-help">
                <Told text={String(one.identity_data?.email ?? user.email ?? "")} />
              </p>
            </div>
            {items && items.length > 1 ? (
              <AskFirst verb="Unlink" name={titleOf(one.provider)} disabled={busy} run={() => unlink(one)} />
            ) : null}
          </>
        )}
      />
      {items === null
        ? null
        : missing.map((one) => (
            <div key={one.id}>
              <Button icon="link" busy={busy} onClick={() => void link(one.id)}>
                Link {one.title}
              </Button>
            </div>
          ))}
    </section>
  );
}
