/** Files that go with the next message: uploaded while one types, and kept by the server for their owner. */
import { useRef, useState } from "react";
import { describe, SessionOver, type Api } from "../api";
import { newId } from "../ids";
import { announce } from "../ui/announce";
import { IconButton, Spinner } from "../ui/controls";
import { saveFile, useLatest } from "../ui/hooks";
import { Icon } from "../ui/icons";
import { toast } from "../ui/toasts";
import { useWorkspace } from "../workspace";
import type { FilePart } from "./messages";

const MOST = 10;

export interface Attachment {
  key: string;
  name: string;
  /** Null while it is uploaded. */
  part: FilePart | null;
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
      change([...latest.current, { key, name: file.name, part: null }]);
      const ended = upload(api, file, key).then(
        (part) => {
          change(latest.current.map((one) => (one.key === key ? { ...one, part } : one)));
          announce(`${file.name} is attached.`);
        },
        (error: unknown) => {
          remove(key);
          if (!(error instanceof SessionOver)) toast(`${file.name} was not taken: ${describe(error)}`, { tone: "error" });
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
  const putBack = (parts: FilePart[]) => change(parts.map((part) => ({ key: newId(), name: part.filename ?? "file", part })));

  return { items, add, remove, take, putBack };
}

export type Attachments = ReturnType<typeof useAttachments>;

/** What will be sent, each with a way to leave it out. */
export function AttachmentList({ attachments }: { attachments: Attachments }) {
  if (attachments.items.length === 0) return null;
  return (
    <ul className="files" aria-label="Files to send">
      {attachments.items.map((one) => (
        <li key={one.key} className="file">
          {one.part === null ? <Spinner /> : <Icon name="clip" size={16} />}
          <span className="file-name">{one.name}</span>
          {one.part === null ? <span className="visually-hidden">is being uploaded</span> : null}
          <IconButton label={`Leave out ${one.name}`} icon="close" size={14} onClick={() => attachments.remove(one.key)} />
        </li>
      ))}
    </ul>
  );
}

/** The files of a message that was sent; each can be saved again. */
export function SentFiles({ parts }: { parts: FilePart[] }) {
  const { api } = useWorkspace();
  if (parts.length === 0) return null;

  const save = async (part: FilePart) => {
    try {
      const response = await api.fetch(part.url);
      saveFile(await response.blob(), part.filename ?? "file");
    } catch (error) {
      if (!(error instanceof SessionOver)) toast(`The file could not be saved: ${describe(error)}`, { tone: "error" });
    }
  };
  return (
    <ul className="files" aria-label="Files">
      {parts.map((part, index) => (
        <li key={index}>
          <button type="button" className="file" title="Save this file" onClick={() => void save(part)}>
            <Icon name="clip" size={16} />
            <span className="file-name">{part.filename ?? "file"}</span>
          </button>
        </li>
      ))}
    </ul>
  );
}
