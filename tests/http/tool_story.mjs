// usage: node tool_story.mjs BASE TOKEN PACKAGE [all|own]
// The `Chat` of an unmodified `ai` package (a version of it, by its name here) and tools that wait: for the person's yes or no, or for
// the client itself. One JSON line for each step, {"step", "error"?}. What the model asks for is in
// the question: "cancel ..." (needs approval) or "locate ..." (the client runs it). Of version 5,
// which knows no approvals, its `own` tools alone.
import { createRequire } from "node:module";
import { randomUUID } from "node:crypto";
import { chatOf } from "../clients/ai-sdk-chat.mjs";
import { same, step } from "../clients/stories.mjs";

const require = createRequire(new URL("../clients/", import.meta.url));
const [base, token, version, which = "all"] = process.argv.slice(2);
const sdk = require(version);
const {
  DefaultChatTransport,
  lastAssistantMessageIsCompleteWithApprovalResponses,
  lastAssistantMessageIsCompleteWithToolCalls,
} = sdk;
const Chat = chatOf(sdk);
const headers = { authorization: `Bearer ${token}` };

const open = (more) =>
  new Chat({
    id: randomUUID(),
    transport: new DefaultChatTransport({ api: `${base}/api/chat`, headers }),
    ...more,
  });
const ready = async (chat) => {
  for (const end = Date.now() + 10_000; chat.status !== "ready"; )
    if (chat.error || Date.now() > end) throw chat.error ?? new Error(`stays ${chat.status}`);
    else await new Promise((go) => setTimeout(go, 5));
};
const tool = (chat) => chat.lastMessage.parts.find((part) => part.type === "dynamic-tool");
const text = (message) =>
  message.parts.filter((part) => part.type === "text").map((part) => part.text).join("|");
const kept = async (chat) => {
  const answer = await fetch(`${base}/api/v1/chat/${chat.id}`, { headers });
  return (await answer.json()).messages;
};
// What the client holds is what is kept, so that a reload shows the same.
const agree = async (chat) => {
  const stored = (await kept(chat)).map(({ id, role, parts }) => ({ id, role, parts }));
  const held = chat.messages.at(-1);
  const shape = (parts) =>
    parts.filter((part) => part.type !== "step-start").map(({ type, state, output, text }) => ({ type, state: type === "dynamic-tool" ? state : undefined, output, text }));
  same(stored.length, 2, "messages kept");
  same(stored[1].id, held.id, "id");
  same(shape(stored[1].parts), shape(held.parts), "parts");
};

const steps = {
  async "a yes lets the tool run, and the answer goes on"() {
    const chat = open({ sendAutomaticallyWhen: lastAssistantMessageIsCompleteWithApprovalResponses });
    await chat.sendMessage({ text: "cancel 7" });
    same(tool(chat).state, "approval-requested", "state");
    await chat.addToolApprovalResponse({ id: tool(chat).approval.id, approved: true });
    await ready(chat);
    same(tool(chat).state, "output-available", "state");
    same(tool(chat).output, { cancelled: 7 }, "output");
    same(text(chat.lastMessage), "Shall I?|Done: {\"cancelled\":7}", "text");
    await agree(chat);
  },
  async "a no is told to the model"() {
    const chat = open({ sendAutomaticallyWhen: lastAssistantMessageIsCompleteWithApprovalResponses });
    await chat.sendMessage({ text: "cancel 8" });
    await chat.addToolApprovalResponse({ id: tool(chat).approval.id, approved: false });
    await ready(chat);
    same(tool(chat).state, "output-denied", "state");
    same(text(chat.lastMessage), "Shall I?|Done: The person did not allow this.", "text");
    await agree(chat);
  },
  async "the client runs a tool of its own"() {
    const chat = open({ sendAutomaticallyWhen: lastAssistantMessageIsCompleteWithToolCalls });
    await chat.sendMessage({ text: "locate me" });
    same(tool(chat).state, "input-available", "state");
    await chat.addToolOutput({ tool: "locate", toolCallId: tool(chat).toolCallId, output: { city: "Rome" } });
    await ready(chat);
    same(text(chat.lastMessage), "Shall I?|Done: {\"city\":\"Rome\"}", "text");
    await agree(chat);
  },
};
const played = Object.entries(steps).slice(which === "own" ? -1 : 0);
for (const [name, live] of played) await step(name, live);
