// usage: node four_surfaces.mjs BASE TOKEN CHAT WORDS
// The `Chat` of an unmodified `ai` package opens a chat with what is kept of it, sends WORDS, and
// prints the texts of all its messages as one line of JSON.
import { createRequire } from "node:module";

const require = createRequire(new URL("../clients/", import.meta.url));
const { AbstractChat, DefaultChatTransport, validateUIMessages } = require("ai");
const [base, token, id, words] = process.argv.slice(2);
const headers = { authorization: `Bearer ${token}` };

// What frameworks bring along for `Chat`: a state that can be looked at.
class State {
  status = "ready";
  error = undefined;
  constructor(messages) {
    this.messages = messages;
  }
  pushMessage = (message) => (this.messages = [...this.messages, message]);
  popMessage = () => (this.messages = this.messages.slice(0, -1));
  replaceMessage = (index, message) =>
    (this.messages = this.messages.map((one, at) => (at === index ? message : one)));
  snapshot = (value) => structuredClone(value);
}
class Chat extends AbstractChat {
  constructor({ messages, ...options }) {
    super({ ...options, state: new State(messages) });
  }
}

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
