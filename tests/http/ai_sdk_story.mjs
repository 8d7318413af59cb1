// usage: node ai_sdk_story.mjs BASE TOKEN PACKAGE
// The `Chat` of an unmodified `ai` package (a version of it, by its name here) talks to a server whose model echoes: one JSON line for
// each step, {"step", "error"?}. Steps do not stop each other. What the model does with a text:
// "slow ..." takes its time, "think ..." reasons and calls a tool, "fail ..." breaks off midway,
// "picture ..." says which pictures it was shown.
import { createRequire } from "node:module";
import { randomUUID } from "node:crypto";
import { setTimeout as pause } from "node:timers/promises";
import { chatOf } from "../clients/ai-sdk-chat.mjs";
import { same, step } from "../clients/stories.mjs";

const require = createRequire(new URL("../clients/", import.meta.url));
const [base, token, version] = process.argv.slice(2);
const sdk = require(version);
const { DefaultChatTransport, convertToModelMessages, generateId, validateUIMessages } = sdk;
const Chat = chatOf(sdk);
const headers = { authorization: `Bearer ${token}` };

let status; // of the last answer
const watched = async (url, options) => {
  const answer = await fetch(url, options);
  status = answer.status;
  return answer;
};
const transport = (more) =>
  new DefaultChatTransport({ api: `${base}/api/chat`, headers, fetch: watched, ...more });
const open = ({ id = randomUUID(), messages, ...more } = {}) =>
  new Chat({ id, messages, transport: transport(more) });
const rest = async (path, options) => {
  const answer = await fetch(`${base}${path}`, { headers, ...options });
  if (!answer.ok) throw new Error(`${path}: ${answer.status}`);
  return answer.json();
};
const history = async (id) => (await rest(`/api/v1/chat/${id}`)).messages;
const asUi = (messages) => messages.map(({ id, role, parts }) => ({ id, role, parts }));
const text = (message) =>
  message.parts.filter((part) => part.type === "text").map((part) => part.text).join("");
const user = (words) => ({ id: generateId(), role: "user", parts: [{ type: "text", text: words }] });
const until = async (holds, what) => {
  for (const end = Date.now() + 10_000; !(await holds()); await pause(10))
    if (Date.now() > end) throw new Error(`never: ${what}`);
};
const fine = (chat) => {
  if (chat.error) throw chat.error;
  same(chat.status, "ready", "status");
};
const exchanged = async (chat, words) => {
  await chat.sendMessage({ text: words });
  fine(chat);
  return text(chat.lastMessage);
};
const collected = async (stream) => {
  const chunks = [];
  for await (const chunk of stream) chunks.push(chunk);
  return chunks;
};
// The beginning of a slow answer, its connection then cut.
const dropped = async (id, message) => {
  const connection = new AbortController();
  const stream = await transport().sendMessages({
    trigger: "submit-message",
    chatId: id,
    messages: [message],
    abortSignal: connection.signal,
  });
  let seen = "";
  try {
    for await (const chunk of stream) {
      if (chunk.type === "text-delta") seen += chunk.delta;
      if (seen.length > 10) connection.abort();
    }
  } catch (error) {
    if (error.name !== "AbortError") throw error;
  }
  return seen;
};

const PICTURE = {
  type: "file",
  mediaType: "image/png",
  filename: "square.png",
  url: "data:image/png;base64,iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk+M9QDwADhgGAWjR9awAAAABJRU5ErkJggg==",
};

const steps = {
  async "submit"() {
    const chat = open();
    same(await exchanged(chat, "one"), "re: one", "answer");
    same(chat.messages.map((one) => one.role), ["user", "assistant"], "roles");
    const kept = await history(chat.id);
    same(kept.map((one) => one.content), ["one", "re: one"], "history");
    same(kept[1].id, chat.lastMessage.id, "id of the answer");
    same(kept[0].client_id, chat.messages[0].id, "id of the question");
    same(chat.lastMessage.parts.map((part) => part.state), [undefined, "done"], "part states");
    same(chat.lastMessage.metadata.usage.total_tokens, 7, "usage");
  },
  async "overrides of the request"() {
    const chat = open({ body: { temperature: 0.3 } });
    await chat.sendMessage({ text: "settings" }, { body: { max_tokens: 77 } });
    fine(chat);
    same(text(chat.lastMessage), "0.3 77", "what the model was told");
    await chat.sendMessage({ text: "settings" }, { body: { temperature: 9 } });
    same([chat.status, status], ["error", 422], "beyond the policy");
  },
  async "only the last message is sent"() {
    const prepareSendMessagesRequest = ({ id, messages, body, trigger, messageId }) => ({
      body: { id, message: messages.at(-1), trigger, messageId, ...body },
    });
    const chat = open({ prepareSendMessagesRequest });
    same(await exchanged(chat, "one"), "re: one", "first");
    same(await exchanged(chat, "two"), "re: two", "second");
    same((await history(chat.id)).length, 4, "messages kept");
  },
  async "regenerate"() {
    const chat = open();
    await exchanged(chat, "count");
    const first = chat.lastMessage;
    await chat.regenerate();
    fine(chat);
    same(chat.messages.length, 2, "messages");
    if (text(chat.lastMessage) === text(first)) throw new Error("the same answer was played again");
    const kept = await history(chat.id);
    same(kept.map((one) => one.content), ["count", text(chat.lastMessage)], "history");
    same(kept[1].siblings, [first.id, chat.lastMessage.id], "siblings");
    await chat.regenerate({ messageId: chat.lastMessage.id });
    fine(chat);
    same((await history(chat.id))[1].siblings.length, 3, "siblings after the third");
  },
  async "edit, and edit back"() {
    const chat = open();
    await exchanged(chat, "count a");
    const id = chat.messages[0].id;
    const answers = [];
    for (const words of ["count b", "count c", "count b"]) {
      await chat.sendMessage({ text: words, messageId: id });
      fine(chat);
      answers.push(text(chat.lastMessage));
      same((await history(chat.id)).map((one) => one.content), [words, answers.at(-1)], "history");
    }
    if (answers[0] === answers[2]) throw new Error("an old answer was played again");
  },
  async "stop"() {
    const chat = open();
    const sending = chat.sendMessage({ text: "slow stop" });
    await until(() => chat.status === "streaming" && text(chat.lastMessage).length > 5, "some text");
    await chat.stop();
    await sending;
    const { stopped } = await rest(`/api/chat/${chat.id}/stop`, { method: "POST" });
    if (!stopped) throw new Error("nothing was stopped");
    fine(chat);
    const kept = (await history(chat.id)).at(-1);
    same([kept.status, kept.content.startsWith(text(chat.lastMessage))], ["stopped", true], "kept");
    same(await exchanged(chat, "next"), "re: next", "the next question");
  },
  async "resume after a lost connection"() {
    const id = randomUUID();
    const message = user("slow resume");
    const seen = await dropped(id, message);
    const chat = open({ id, messages: [message] });
    await chat.resumeStream();
    fine(chat);
    const whole = text(chat.lastMessage);
    same([whole.startsWith(seen), whole.length > seen.length], [true, true], "a full replay");
    same(whole, (await history(id)).at(-1).content, "text");
    await chat.resumeStream();
    same([status, chat.status, chat.messages.length], [204, "ready", 2], "nothing more to resume");
  },
  async "two readers"() {
    const id = randomUUID();
    const message = user("slow readers");
    await dropped(id, message);
    const chats = [open({ id, messages: [message] }), open({ id, messages: [message] })];
    await Promise.all(chats.map((chat) => chat.resumeStream()));
    chats.forEach(fine);
    same(text(chats[0].lastMessage), text(chats[1].lastMessage), "texts");
    same(chats[0].lastMessage.id, chats[1].lastMessage.id, "ids");
  },
  async "ten duplicates"() {
    const id = randomUUID();
    const messages = [user("slow count duplicates")];
    const submit = { trigger: "submit-message", chatId: id, messages };
    const streams = await Promise.all(
      Array.from({ length: 10 }, async () => collected(await transport().sendMessages(submit))),
    );
    const ids = new Set(streams.map((chunks) => chunks[0].messageId));
    const texts = new Set(
      streams.map((chunks) => chunks.map((chunk) => chunk.delta ?? "").join("")),
    );
    same([ids.size, texts.size], [1, 1], "different answers");
    same((await history(id)).length, 2, "messages kept");
  },
  async "reasoning and tool calls"() {
    const chat = open();
    await exchanged(chat, "think hard");
    const types = ["step-start", "reasoning", "text", "dynamic-tool"];
    same(chat.lastMessage.parts.map((part) => part.type), types, "parts");
    same(chat.lastMessage.parts.at(-1).input, { at: "sky" }, "input");
  },
  async "a file is shown to the model, and is there after loading"() {
    const chat = open();
    await chat.sendMessage({ text: "picture", files: [PICTURE] });
    fine(chat);
    same(text(chat.lastMessage), PICTURE.url, "what the model was shown");
    same(await exchanged(chat, "picture?"), "", "what the next question shows");
    const kept = asUi(await history(chat.id));
    const file = kept[0].parts.find((part) => part.type === "file");
    same([file.mediaType, file.filename], [PICTURE.mediaType, PICTURE.filename], "file");
    const read = await fetch(new URL(file.url, base), { headers });
    const encoded = Buffer.from(await read.arrayBuffer()).toString("base64");
    same(`data:image/png;base64,${encoded}`, PICTURE.url, "bytes");
    const messages = await validateUIMessages({ messages: kept.slice(0, 2) });
    const again = open({ id: chat.id, messages });
    await again.regenerate({ messageId: messages[1].id });
    fine(again);
    same(text(again.lastMessage), PICTURE.url, "what the model is shown again");
    await again.sendMessage({ text: "picture again", files: [file] });
    fine(again);
    same(text(again.lastMessage), PICTURE.url, "a file that was kept, sent by its address");
  },
  async "history is made of messages that the SDK takes"() {
    const chat = open();
    await exchanged(chat, "think hard");
    await exchanged(chat, "two");
    const messages = await validateUIMessages({ messages: asUi(await history(chat.id)) });
    const again = open({ id: chat.id, messages });
    same(await exchanged(again, "three"), "re: three", "after loading");
    same((await history(chat.id)).length, 6, "messages kept");
    await convertToModelMessages(again.messages);
  },
  async "a failure"() {
    const chat = open();
    await chat.sendMessage({ text: "fail midway" });
    same(chat.status, "error", "status");
    same(chat.error.message, "The model took too long to answer.", "message");
    same(text(chat.lastMessage), "Half", "what was said is kept");
    await chat.regenerate();
    same(chat.status, "error", "status after trying again");
    same((await history(chat.id)).at(-1).siblings.length, 2, "tries");
    same(await exchanged(chat, "better"), "re: better", "the next question");
  },
  async "a bad token"() {
    const chat = open({ headers: { authorization: `${headers.authorization}x` } });
    await chat.sendMessage({ text: "hello" });
    same([chat.status, status], ["error", 401], "status");
    if (!chat.error.message.includes("Invalid or expired token")) throw chat.error;
  },
  async "a chat begun over REST"() {
    const { conversation_id: id } = await rest("/api/v1/chat/start", { method: "POST" });
    const chat = open({ id, messages: asUi(await history(id)) });
    same(await exchanged(chat, "one"), "re: one", "answer");
    same((await history(id)).length, 3, "messages kept");
  },
};

for (const [name, live] of Object.entries(steps)) await step(name, live);
