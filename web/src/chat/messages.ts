/** Stored messages as the AI SDK's UI messages, and what the page needs to know beside the parts. */
import type { UIMessage } from "ai";
import type { MessageStatus, StoredMessage } from "../wire";

interface Details {
  createdAt?: string;
  status?: MessageStatus;
  model?: string | null;
  error?: { code: string; message: string } | null;
  finishReason?: string | null;
  siblings?: string[];
  clientId?: string | null;
}

export type ChatMessage = UIMessage<Details>;
type Part = ChatMessage["parts"][number];

export function fromStored(stored: StoredMessage): ChatMessage {
  const parts = stored.parts?.length ? stored.parts : [{ type: "text" as const, text: stored.content }];
  return {
    id: stored.id,
    role: stored.role,
    parts,
    metadata: {
      createdAt: stored.created_at,
      status: stored.status,
      model: stored.model,
      error: stored.error,
      finishReason: stored.finish_reason,
      siblings: stored.siblings,
      clientId: stored.client_id,
    },
  };
}

/** A key that does not change when the server's id replaces the one the client made. */
export function keyOf(message: ChatMessage): string {
  return message.metadata?.clientId ?? message.id;
}

export function textOf(message: ChatMessage): string {
  return message.parts.flatMap((part) => (part.type === "text" ? [part.text] : [])).join("\n\n");
}

export function hasContent(message: ChatMessage): boolean {
  return message.parts.some((part) => {
    if (part.type === "text" || part.type === "reasoning") return part.text !== "";
    return part.type === "dynamic-tool" || part.type === "source-url";
  });
}

/** What is to be said of an answer that the model ended, though it may not be whole; null: nothing. */
export function shortfallOf(message: ChatMessage): string | null {
  const { status, finishReason } = message.metadata ?? {};
  if (status !== "done") return null;
  const empty = !message.parts.some((part) => (part.type === "text" ? part.text.trim() !== "" : part.type === "dynamic-tool" || part.type === "source-url"));
  // Also where the application's own check has put something in the place of the answer.
  if (finishReason === "content-filter") return empty ? "A content filter held back this answer." : "A content filter shortened or replaced this answer.";
  if (finishReason === "length") return empty ? "The model reached its length limit before it said anything." : "The model stopped at its length limit.";
  return empty ? "The model said nothing." : null;
}

export type FilePart = Extract<Part, { type: "file" }>;

export function filesOf(message: ChatMessage): FilePart[] {
  return message.parts.filter((part): part is FilePart => part.type === "file");
}

export type ToolPart = Extract<Part, { type: "dynamic-tool" }>;
export type SourcePart = Extract<Part, { type: "source-url" }>;

/** The tools of *message* that wait for the person's yes or no. */
export function awaitingApproval(message: ChatMessage | undefined): ToolPart[] {
  return message?.parts.filter((part): part is ToolPart => part.type === "dynamic-tool" && part.state === "approval-requested") ?? [];
}

export type Block =
  | { kind: "text"; text: string }
  | { kind: "reasoning"; text: string }
  | { kind: "tool"; part: ToolPart }
  | { kind: "sources"; sources: SourcePart[] };

/** The parts that are shown, neighbours of one kind joined. */
export function blocksOf(message: ChatMessage): Block[] {
  const blocks: Block[] = [];
  for (const part of message.parts) {
    if (part.type === "dynamic-tool") {
      blocks.push({ kind: "tool", part });
    } else if (part.type === "source-url") {
      const last = blocks.at(-1);
      if (last?.kind === "sources") last.sources.push(part);
      else blocks.push({ kind: "sources", sources: [part] });
    } else if ((part.type === "text" || part.type === "reasoning") && part.text !== "") {
      const last = blocks.at(-1);
      if (last?.kind === part.type) last.text += `\n\n${part.text}`;
      else blocks.push({ kind: part.type, text: part.text });
    }
  }
  return blocks;
}

/**
 * Put the newest *page* in the place of the messages it overlaps.
 *
 * Older messages that were loaded before stay only if the page continues them; otherwise
 * another branch is shown now and they would not belong to it.
 */
export function mergePage(shown: ChatMessage[], page: ChatMessage[], hasOlder: boolean): { messages: ChatMessage[]; keptOlder: boolean } {
  const first = page[0];
  const at = first && hasOlder ? shown.findIndex((message) => message.id === first.id) : -1;
  if (at <= 0) return { messages: page, keptOlder: false };
  return { messages: [...shown.slice(0, at), ...page], keptOlder: true };
}
