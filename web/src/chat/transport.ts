/** How the AI SDK reaches our server: only the new message travels, history is the server's. */
import { DefaultChatTransport } from "ai";
import type { Api } from "../api";
import type { ChatMessage } from "./messages";

interface TransportOptions {
  api: Api;
  /** The model chosen for the next answer; null leaves it to the server. */
  model: () => string | null;
  /** Called when the server has taken a question in and begins to answer. */
  onAccepted: () => void;
}

export function createTransport({ api, model, onAccepted }: TransportOptions): DefaultChatTransport<ChatMessage> {
  return new DefaultChatTransport<ChatMessage>({
    api: "/api/chat",
    fetch: async (input, init) => {
      const response = await api.fetch(input, init);
      if (init?.method === "POST") onAccepted();
      return response;
    },
    prepareSendMessagesRequest: ({ id, messages, trigger, messageId, body }) => {
      const last = messages.at(-1);
      if (!last) throw new Error("There is no message to send.");
      // Of an answer only what the person decided about its tools is news to the server.
      const parts = last.parts.filter((part) => (last.role === "user" ? part.type === "text" || part.type === "file" : part.type === "dynamic-tool"));
      const chosen = model();
      return {
        body: {
          ...body,
          id,
          message: { id: last.id, role: last.role, parts },
          trigger,
          ...(messageId === undefined ? {} : { messageId }),
          ...(chosen === null ? {} : { model: chosen }),
        },
      };
    },
  });
}
