// usage: node openai_story.mjs BASE TOKEN
// An unmodified `openai` package talks to a server whose model echoes: one JSON line for each
// step, {"step", "error"?}. Steps do not stop each other. What the model does with a text:
// "slow ..." takes its time, "tool ..." calls the function `look`, "fail ..." breaks off midway.
import { createRequire } from "node:module";
import { setTimeout as pause } from "node:timers/promises";
import { same, step } from "../clients/stories.mjs";

const require = createRequire(new URL("../clients/", import.meta.url));
const OpenAI = require("openai");
const [base, token] = process.argv.slice(2);
const open = (more) =>
  new OpenAI({ apiKey: token, baseURL: `${base}/v1`, maxRetries: 0, timeout: 30_000, ...more });
const client = open();
const model = "echo/model";
const tool = {
  type: "function",
  name: "look",
  parameters: { type: "object", properties: { at: { type: "string" } } },
  strict: false,
};
const refused = async (promise, kind, code) => {
  const error = await promise.then(
    () => undefined,
    (found) => found,
  );
  if (!(error instanceof OpenAI[kind])) throw new Error(`${error} instead of ${kind}`);
  if (code !== undefined) same(error.code, code, "code");
  if (!error.requestID) throw new Error("no request id");
  return error;
};
const chat = (content, more) => ({ model, messages: [{ role: "user", content }], ...more });
const listed = async (page) => {
  const found = [];
  for await (const one of page) found.push(one);
  return found;
};

const steps = {
  async "models"() {
    const found = await listed(client.models.list());
    same(found.map((one) => one.object), ["model"], "objects");
    same((await client.models.retrieve(found[0].id)).id, found[0].id, "id");
    await refused(client.models.retrieve("no/such"), "NotFoundError", "model_not_found");
  },
  async "chat, whole and streamed"() {
    const whole = await client.chat.completions.create(chat("one"));
    same(whole.choices[0].message.content, "re: one", "content");
    same(whole.usage.total_tokens, 7, "usage");
    const stream = client.chat.completions.stream(
      chat("two", { stream_options: { include_usage: true } }),
    );
    const final = await stream.finalChatCompletion();
    same(final.choices[0].message.content, "re: two", "streamed");
    same((await stream.totalUsage()).total_tokens, 7, "usage of the stream");
  },
  async "chat with a function"() {
    const { type, ...described } = tool;
    const tools = [{ type, function: described }];
    const stream = client.chat.completions.stream(chat("tool sky", { tools }));
    const [choice] = (await stream.finalChatCompletion()).choices;
    same(choice.finish_reason, "tool_calls", "reason");
    same(choice.message.tool_calls[0].function.arguments, '{"at":"sky"}', "arguments");
  },
  async "chat that is kept"() {
    const { data, response } = await client.chat.completions
      .create(chat("one", { store: true }))
      .withResponse();
    const id = response.headers.get("x-conversation-id");
    same(data.conversation.id, id, "id");
    await client.chat.completions.create(
      chat("two", { store: true, metadata: { conversation_id: id } }),
    );
    const items = await listed(client.conversations.items.list(id, { order: "asc" }));
    const texts = items.map((one) => one.content[0].text);
    same(texts, ["one", "re: one", "two", "re: two"], "texts");
  },
  async "bad keys"() {
    await refused(open({ apiKey: "bad" }).models.list(), "AuthenticationError", "invalid_api_key");
    const stream = open({ apiKey: "bad" }).chat.completions.create(chat("x", { stream: true }));
    await refused(stream, "AuthenticationError", "invalid_api_key");
    await refused(
      open({ apiKey: "bad" }).responses.create({ model, input: "x", stream: true }),
      "AuthenticationError",
      "invalid_api_key",
    );
  },
  async "bad requests"() {
    await refused(client.chat.completions.create({ model, messages: "hi" }), "BadRequestError");
    await refused(client.chat.completions.create(chat("x", { model: "no/such" })), "NotFoundError");
    const asked = client.responses.create({ model, input: "x", prompt: { id: "p" } });
    same((await refused(asked, "BadRequestError")).param, "prompt", "param");
    await refused(client.get("/no-such-thing"), "NotFoundError");
  },
  async "aborted"() {
    const ending = new AbortController();
    let seen = 0;
    try {
      const stream = await client.responses.create(
        { model, input: "slow", stream: true },
        { signal: ending.signal },
      );
      for await (const event of stream)
        if (event.type === "response.output_text.delta" && ++seen === 3) ending.abort();
    } catch (error) {
      if (!/abort/i.test(error.message)) throw error;
    }
    same((await client.responses.create({ model, input: "next" })).output_text, "re: next", "next");
  },
  async "response, whole and streamed"() {
    const whole = await client.responses.create({ model, input: "one" });
    same([whole.status, whole.output_text], ["completed", "re: one"], "whole");
    const stream = client.responses.stream({ model, input: "slow two" });
    let text = "";
    stream.on("response.output_text.delta", (event) => (text += event.delta));
    const final = await stream.finalResponse();
    same(text, final.output_text, "deltas");
    const kept = await client.responses.retrieve(final.id);
    same(kept.output, final.output.map(({ parsed, ...one }) => one).map(plain), "output");
  },
  async "response with a function"() {
    const stream = client.responses.stream({ model, input: "tool sky", tools: [tool] });
    const first = await stream.finalResponse();
    const call = first.output.find((one) => one.type === "function_call");
    same(JSON.parse(call.arguments), { at: "sky" }, "arguments");
    const second = await client.responses.create({
      model,
      tools: [tool],
      previous_response_id: first.id,
      input: [{ type: "function_call_output", call_id: call.call_id, output: "blue" }],
    });
    same(second.output_text, "re: blue", "text");
    same(second.conversation, first.conversation, "conversation");
  },
  async "response in the background"() {
    const begun = await client.responses.create({ model, input: "slow", background: true });
    same(begun.status, "in_progress", "status");
    const stream = client.responses.stream({ response_id: begun.id, starting_after: 1 });
    const numbers = [];
    stream.on("event", (event) => numbers.push(event.sequence_number));
    const final = await stream.finalResponse();
    same(numbers.every((number) => number > 1), true, "numbers");
    same((await client.responses.retrieve(begun.id)).output_text, final.output_text, "text");
    same((await client.responses.cancel(begun.id)).status, "completed", "cancelled too late");
  },
  async "response that fails midway"() {
    const events = await listed(
      await client.responses.create({ model, input: "fail", stream: true }),
    );
    same(events.at(-1).type, "response.failed", "last event");
  },
  async "response that is deleted"() {
    const made = await client.responses.create({ model, input: "one" });
    const items = await listed(client.responses.inputItems.list(made.id));
    same(items.map((one) => one.content[0].text), ["one"], "input");
    await client.responses.delete(made.id);
    await refused(client.responses.retrieve(made.id), "NotFoundError");
  },
  async "conversation"() {
    const made = await client.conversations.create({
      items: [{ type: "message", role: "user", content: "one" }],
      metadata: { topic: "x" },
    });
    const answer = await client.responses.create({ model, conversation: made.id });
    same(answer.output_text, "re: one", "answer");
    await client.conversations.items.create(made.id, {
      items: [{ type: "message", role: "user", content: "two" }],
    });
    const items = await listed(client.conversations.items.list(made.id, { order: "asc", limit: 2 }));
    same(items.map((one) => one.content[0].text), ["one", "re: one", "two"], "items");
    const last = { conversation_id: made.id };
    same((await client.conversations.items.retrieve(items[2].id, last)).id, items[2].id, "item");
    await client.conversations.items.delete(items[2].id, last);
    await client.conversations.update(made.id, { metadata: { topic: "y" } });
    same((await client.conversations.retrieve(made.id)).metadata, { topic: "y" }, "metadata");
    await client.conversations.delete(made.id);
    await refused(client.conversations.retrieve(made.id), "NotFoundError");
  },
  async "sent twice"() {
    const options = { headers: { "Idempotency-Key": `key ${Date.now()}` } };
    const ask = () => client.responses.create({ model, input: "slow count" }, options);
    const made = await Promise.all(Array.from({ length: 5 }, ask));
    same(new Set(made.map((one) => one.id)).size, 1, "responses");
    same((await ask()).output_text, made[0].output_text, "asked later");
    await pause(1);
  },
};

// What the helper of the client adds to what it was sent.
function plain({ parsed_arguments, content, ...one }) {
  return content ? { ...one, content: content.map(({ parsed, ...part }) => part) } : one;
}

for (const [name, live] of Object.entries(steps)) await step(name, live);
