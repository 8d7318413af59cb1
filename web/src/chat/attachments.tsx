/** Files that go with the next message: uploaded while one types, and kept by the server for their owner. */
import { useEffect, useRef, useState } from "react";
import { describe, SessionOver, type Api } from "../api";
import { newId } from "../ids";
import { announce } from "../ui/announce";
import { IconButton, Spinner } from "../ui/controls";
import { saveFile, useLatest } from "../ui/hooks";
import { Icon } from "../ui/icons";
import { straight } from "../ui/straight";
import { toast } from "../ui/toasts";
import { useWorkspace } from "../workspace";
import type { FilePart } from "./messages";
import { isPicture, Picture, PictureDialog } from "./pictures";

const MOST = 10;

interface Attachment {
  key: string;
  name: string;
  /** Null while it is uploaded. */
  part: FilePart | null;
  /** What to show of it: the picture that was chosen, or where the server has it. */
  picture: Blob | string | null;
}

async function upload(api: Api, file: File, key: string): Promise<FilePart> {
  const response = await api.fetch(`/api/files?name=${encodeURIComponent(file.name)}`, {
    method: "POST",
    headers: { "content-type": file.type || "application/octet-stream", "idempotency-key": key },
    body: file,
  });
  const { mediaType, filename, url } = (await response.json()) as FilePart;
  return { type: "file", mediaType, url, ...(filename === undefined ? {} : { filename }) };
}

export function useAttachments() {
  const { api } = useWorkspace();
  const [items, setItems] = useState<Attachment[]>([]);
  // What is true now, for who has waited for an upload.
  const latest = useRef(items);
  const uploads = useRef(new Set<Promise<void>>());

  const change = (next: Attachment[]) => {
    latest.current = next;
    setItems(next);
  };
  const remove = (key: string) => change(latest.current.filter((one) => one.key !== key));

  const add = useLatest((files: Iterable<File>) => {
    const wanted = [...files];
    const taken = wanted.slice(0, Math.max(0, MOST - latest.current.length));
    if (taken.length < wanted.length) toast(`A message takes ${MOST} files at most.`, { tone: "error" });
    for (const file of taken) {
      const key = newId();
      const name = straight(file.name);
      change([...latest.current, { key, name, part: null, picture: isPicture(file.type) ? file : null }]);
      const ended = upload(api, file, key).then(
        (part) => {
          change(latest.current.map((one) => (one.key === key ? { ...one, part } : one)));
          announce(`${name} is attached.`);
        },
        (error: unknown) => {
          remove(key);
          if (!(error instanceof SessionOver)) toast(`${name} was not taken: ${describe(error)}`, { tone: "error" });
        },
      );
      uploads.current.add(ended);
      void ended.finally(() => uploads.current.delete(ended));
    }
  });

  /** Hand out what was attached, as soon as all of it is uploaded, and begin anew; null where some was refused. */
  const take = useLatest(async (): Promise<FilePart[] | null> => {
    const wanted = latest.current.length;
    await Promise.all(uploads.current);
    if (latest.current.length < wanted) return null;
    const parts = latest.current.flatMap((one) => (one.part === null ? [] : [one.part]));
    change([]);
    return parts;
  });
  /** Put what came back ahead of what was attached since. */
  const putBack = (parts: FilePart[]) =>
    change([...parts.map((part) => ({ key: newId(), name: nameOf(part), part, picture: isPicture(part.mediaType) ? part.url : null })), ...latest.current]);

  return { items, add, remove, take, putBack };
}

export type Attachments = ReturnType<typeof useAttachments>;

function nameOf(part: FilePart): string {
  return straight(part.filename ?? "file");
}

/** What will be sent, each with a way to leave it out. */
export function AttachmentList({ attachments }: { attachments: Attachments }) {
  if (attachments.items.length === 0) return null;
  return (
    <ul className="files" aria-label="Files to send">
      {attachments.items.map((one) => (
        <Attached key={one.key} one={one} leaveOut={() => attachments.remove(one.key)} />
      ))}
    </ul>
  );
}

function Attached({ one, leaveOut }: { one: Attachment; leaveOut: () => void }) {
  const [failed, setFailed] = useState(false);
  const picture = failed ? null : one.picture;
  const waiting = one.part === null;
  return (
    <li className={picture === null ? "file" : "file file-picture"}>
      {picture === null ? null : <Picture source={picture} alt={`Preview of ${one.name}`} onFailed={() => setFailed(true)} />}
      {waiting ? <Spinner /> : picture === null ? <Icon name="clip" size={16} /> : null}
      <span className="file-name">{one.name}</span>
      {waiting ? <span className="visually-hidden">is being uploaded</span> : null}
      <IconButton label={`Leave out ${one.name}`} icon="close" size={14} onClick={leaveOut} />
    </li>
  );
}

/** The files of a message that was sent; each can be saved again, and pictures are seen. */
export function SentFiles({ parts }: { parts: FilePart[] }) {
  if (parts.length === 0) return null;
  return (
    <ul className="files" aria-label="Files">
      {parts.map((part, index) => (
        <li key={index}>{isPicture(part.mediaType) ? <SentPicture part={part} /> : <SentFile part={part} />}</li>
      ))}
    </ul>
  );
}

function SentPicture({ part }: { part: FilePart }) {
  const [blob, setBlob] = useState<Blob | null>(null);
  const [open, setOpen] = useState(false);
  const [failed, setFailed] = useState(false);
  const name = nameOf(part);

  // One that cannot be shown can perhaps be saved; online again it is worth another try.
  useEffect(() => {
    if (!failed) return;
    const again = () => setFailed(false);
    addEventListener("online", again);
    return () => removeEventListener("online", again);
  }, [failed]);

  if (failed) return <SentFile part={part} />;
  return (
    <>
      <button type="button" className="sent-picture" aria-label={`Show ${name}`} title={name} disabled={blob === null} onClick={() => setOpen(true)}>
        <Picture source={part.url} alt={name} onLoaded={setBlob} onFailed={() => setFailed(true)} />
      </button>
      {open && blob !== null ? <PictureDialog blob={blob} name={name} onClose={() => setOpen(false)} /> : null}
    </>
  );
}

function SentFile({ part }: { part: FilePart }) {
  const { api } = useWorkspace();
  const save = async () => {
    try {
      const response = await api.fetch(part.url);
      saveFile(await response.blob(), nameOf(part));
    } catch (error) {
      if (!(error instanceof SessionOver)) toast(`The file could not be saved: ${describe(error)}`, { tone: "error" });
    }
  };
  return (
    <button type="button" className="file" title="Save this file" onClick={() => void save()}>
      <Icon name="clip" size={16} />
      <span className="file-name">{nameOf(part)}</span>
    </button>
  );
}
