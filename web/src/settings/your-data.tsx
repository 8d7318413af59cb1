/** What a person takes along and brings with them: everything as one file, and chats from elsewhere. */
import { useRef, useState } from "react";
import { ApiError, describe, SessionOver, type Api } from "../api";
import { announce } from "../ui/announce";
import { Button, Notice } from "../ui/controls";
import { saveFile } from "../ui/hooks";
import { toast } from "../ui/toasts";
import { useWorkspace } from "../workspace";

/** How far it has come; *total* null while that is not known. */
export interface Progress {
  done: number;
  total: number | null;
}

export function ProgressBar({ label, progress }: { label: string; progress: Progress }) {
  const { done, total } = progress;
  return (
    <div className="progress" role="status">
      <progress aria-label={label} max={total ?? 1} {...(total === null ? {} : { value: Math.min(done, total) })} />
      <span className="field-help">{total === null ? label : `${Math.min(done, total)} of ${total} chats`}</span>
    </div>
  );
}

// Each chat of the document has one; within a text its quotation marks are escaped.
const OF_A_CHAT = '"messages":[';

/** Read *response* to its end, telling how many chats have come. */
async function readAll(response: Response, tell: (progress: Progress) => void): Promise<Blob> {
  const total = Number(response.headers.get("x-total-count") ?? "") || null;
  const reader = response.body?.getReader();
  if (!reader) return response.blob();
  const decoder = new TextDecoder();
  const pieces: BlobPart[] = [];
  let done = 0;
  let rest = "";
  for (let piece = await reader.read(); !piece.done; piece = await reader.read()) {
    pieces.push(piece.value);
    const text = rest + decoder.decode(piece.value, { stream: true });
    done += text.split(OF_A_CHAT).length - 1;
    rest = text.slice(-(OF_A_CHAT.length - 1));
    tell({ done, total });
  }
  return new Blob(pieces, { type: "application/json" });
}

export function ExportRow() {
  const { api } = useWorkspace();
  const [progress, setProgress] = useState<Progress | null>(null);

  const download = async () => {
    setProgress({ done: 0, total: null });
    try {
      const response = await api.fetch("/api/account/data");
      saveFile(await readAll(response, setProgress), `chatkeep-${new Date().toISOString().slice(0, 10)}.json`);
      announce("Everything is exported.");
    } catch (error) {
      if (!(error instanceof SessionOver)) toast(`Could not export your data: ${describe(error)}`, { tone: "error" });
    } finally {
      setProgress(null);
    }
  };
  return (
    <div className="panel-row">
      <div>
        <p>Your data</p>
        <p className="field-help">Every chat with its files, your settings, devices, links and usage, as one JSON file.</p>
        {progress === null ? null : <ProgressBar label="Exporting" progress={progress} />}
      </div>
      <Button icon="download" busy={progress !== null} onClick={() => void download()}>
        Export everything
      </Button>
    </div>
  );
}

const BATCH_BYTES = 600_000;

/** Lists of chats that are each small enough for one request. */
function* batches(chats: unknown[]): Generator<unknown[]> {
  let batch: unknown[] = [];
  let bytes = 0;
  for (const chat of chats) {
    const size = new Blob([JSON.stringify(chat)]).size;
    if (batch.length > 0 && bytes + size > BATCH_BYTES) {
      yield batch;
      batch = [];
      bytes = 0;
    }
    batch.push(chat);
    bytes += size;
  }
  if (batch.length > 0) yield batch;
}

/** Send one batch; who sends too fast waits as long as the server says. */
async function send(api: Api, batch: unknown[]): Promise<{ imported: number; known: number }> {
  for (;;) {
    try {
      return await api.json("POST", "/api/v1/chat/import", batch);
    } catch (error) {
      if (!(error instanceof ApiError) || error.status !== 429) throw error;
      await new Promise((resolve) => setTimeout(resolve, (error.retryAfterS ?? 10) * 1000));
    }
  }
}

async function chatsIn(file: File): Promise<unknown[]> {
  const told: unknown = JSON.parse(await file.text());
  return Array.isArray(told) ? told : [told];
}

export function ImportRow() {
  const { api, conversations } = useWorkspace();
  const chooser = useRef<HTMLInputElement>(null);
  const [progress, setProgress] = useState<Progress | null>(null);
  const [said, setSaid] = useState<{ tone: "info" | "error"; text: string } | null>(null);

  const bring = async (file: File) => {
    setSaid(null);
    setProgress({ done: 0, total: null });
    let imported = 0;
    let known = 0;
    try {
      const chats = await chatsIn(file);
      let done = 0;
      for (const batch of batches(chats)) {
        setProgress({ done, total: chats.length });
        const answer = await send(api, batch);
        imported += answer.imported;
        known += answer.known;
        done += batch.length;
      }
      const before = known === 0 ? "" : ` ${known === 1 ? "One was" : `${known} were`} here before.`;
      setSaid({ tone: "info", text: `${imported === 1 ? "One chat was" : `${imported} chats were`} imported.${before}` });
    } catch (error) {
      if (error instanceof SessionOver) return;
      const unread = error instanceof SyntaxError ? "It is no JSON file. Of a ZIP archive, choose the file conversations.json in it." : describe(error);
      setSaid({ tone: "error", text: `${imported === 0 ? "" : `${imported} chats were imported, then it stopped. `}${unread}` });
    } finally {
      setProgress(null);
    }
    await conversations.refresh().catch((error: unknown) => console.info("The list was not read again:", error));
  };
  return (
    <>
      <div className="panel-row">
        <div>
          <p>Chats from elsewhere</p>
          <p className="field-help">
            From the export of ChatGPT (<code>conversations.json</code>) or Open WebUI. What came before is not doubled.
          </p>
          {progress === null ? null : <ProgressBar label="Importing" progress={progress} />}
        </div>
        <input
          ref={chooser}
          type="file"
          accept=".json,application/json"
          hidden
          aria-label="Export to import"
          onChange={(event) => {
            const [file] = event.target.files ?? [];
            if (file) void bring(file);
            event.target.value = "";
          }}
        />
        <Button icon="arrowUp" busy={progress !== null} onClick={() => chooser.current?.click()}>
          Import chats
        </Button>
      </div>
      {said === null ? null : <Notice tone={said.tone}>{said.text}</Notice>}
    </>
  );
}
