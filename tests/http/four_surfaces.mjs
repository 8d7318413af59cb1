// usage: node four_surfaces.mjs BASE TOKEN CHAT WORDS
// The `Chat` of an unmodified `ai` package opens a chat with what is kept of it, sends WORDS, and
// prints the texts of all its messages as one line of JSON.
import { createRequire } from "node:module";
import { chatOf } from "../clients/ai-sdk-chat.mjs";

const require = createRequire(new URL("../clients/", import.meta.url));
const sdk = require("ai");
const { DefaultChatTransport, validateUIMessages } = sdk;
const Chat = chatOf(sdk);
const [base, token, id, words] = process.argv.slice(2);
const headers = { authorization: `Bearer ${token}` };

const answer = await fetch(`${base}/api/v1/chat/${id}`, { headers });
const kept = answer.ok ? (await answer.json()).messages : [];
const messages = kept.length
  ? await validateUIMessages({
      messages: kept.map(({ id: name, role, parts }) => ({ id: name, role, parts })),
    })
  : [];
const transport = new DefaultChatTransport({ api: `${base}/api/chat`, headers });
const chat = new Chat({ id, messages, transport });
await chat.sendMessage({ text: words });
if (chat.error) throw chat.error;
const text = ({ parts }) =>
  parts
    .filter((part) => part.type === "text")
    .map((part) => part.text)
    .join("");
console.log(JSON.stringify(chat.messages.map(text)));
