/** Links that show a chat, as it stands now, to whoever has one: made, seen once, listed, ended. */
import { useEffect, useRef, useState } from "react";
import { describe, SessionOver } from "../api";
import { CopyButton } from "../chat/copy-button";
import { announce } from "../ui/announce";
import { AskFirst, Button, DaysSelect, Notice, Spinner } from "../ui/controls";
import { Dialog } from "../ui/dialog";
import { useLatest } from "../ui/hooks";
import { Told } from "../ui/told";
import { useLocale, useWorkspace } from "../workspace";
import type { NewShare, Share } from "../wire";

const DAYS = [1, 7, 30, 90, 365];
const USUAL_DAYS = 30;

export function ShareDialog({ id, title, onClose }: { id: string; title: string; onClose: () => void }) {
  const { api } = useWorkspace();
  const [links, setLinks] = useState<Share[] | null>(null);
  const [made, setMade] = useState<NewShare | null>(null);
  const [days, setDays] = useState(USUAL_DAYS);
  const [busy, setBusy] = useState(false);
  const [problem, setProblem] = useState<string | null>(null);
  const address = useRef<HTMLInputElement>(null);

  const attempt = async (work: () => Promise<void>) => {
    setBusy(true);
    setProblem(null);
    try {
      await work();
    } catch (error) {
      if (!(error instanceof SessionOver)) setProblem(describe(error));
    } finally {
      setBusy(false);
    }
  };
  const load = useLatest(async () => {
    const { shares } = await api.json<{ shares: Share[] }>("GET", "/api/v1/shares");
    setLinks(shares.filter((one) => one.conversation_id === id));
  });
  useEffect(() => void attempt(load), [load]);
  useEffect(() => address.current?.select(), [made]);

  const make = () =>
    attempt(async () => {
      setMade(await api.json<NewShare>("POST", `/api/v1/chat/${id}/shares`, { expires_in_days: days }));
      announce("The link is made.");
      await load();
    });
  const end = (share: Share) =>
    attempt(async () => {
      await api.json("DELETE", `/api/v1/shares/${share.id}`);
      if (made?.id === share.id) setMade(null);
      announce("The link shows nothing any more.");
      await load();
    });

  return (
    <Dialog title="Share this chat" onClose={onClose}>
      <p>
        Whoever has the link can read “<Told text={title} />” as it stands now, without signing in. Nothing that is said later is shown, and nothing else of yours.
      </p>
      {problem === null ? null : <Notice tone="error">{problem}</Notice>}
      {made === null ? (
        <div className="row">
          <label className="share-days">
            <span>Ends after</span>
            <DaysSelect value={days} choices={DAYS} onChange={setDays} />
          </label>
          <Button tone="primary" icon="link" busy={busy} onClick={() => void make()}>
            Make a link
          </Button>
        </div>
      ) : (
        <>
          <div className="key-once">
            <input ref={address} className="input" type="text" readOnly aria-label="Link to this chat" value={made.url} onFocus={(event) => event.target.select()} />
            <CopyButton text={made.url} label="Copy link" />
          </div>
          <p className="field-help">Copy it now: it is shown only this once.</p>
        </>
      )}
      <Links links={links} busy={busy} end={end} />
    </Dialog>
  );
}

function Links({ links, busy, end }: { links: Share[] | null; busy: boolean; end: (share: Share) => Promise<void> }) {
  const day = new Intl.DateTimeFormat(useLocale(), { dateStyle: "medium" });
  if (links === null) return busy ? <Spinner /> : null;
  if (links.length === 0) return null;
  return (
    <ul className="rows" aria-label="Links to this chat">
      {links.map((one) => (
        <li key={one.id} className="panel-row">
          <div>
            <p>
              Made <time dateTime={one.created_at}>{day.format(new Date(one.created_at))}</time>
            </p>
            <p className="field-help">
              Ends <time dateTime={one.expires_at}>{day.format(new Date(one.expires_at))}</time>
            </p>
          </div>
          <AskFirst verb="End it now" yes="Yes, end it" disabled={busy} run={() => end(one)} />
        </li>
      ))}
    </ul>
  );
}
