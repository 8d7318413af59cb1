import assert from "node:assert/strict";
import { test } from "node:test";
import type { SettingsValues } from "../wire.ts";
import { keptChanges } from "./kept-changes.ts";

const SETTINGS: SettingsValues = {
  temperature: null,
  top_p: null,
  max_tokens: null,
  system_prompt: null,
  default_model: null,
  display_name: "Ana",
  custom_instructions: null,
  theme: null,
  locale: null,
};
const NAMES = ["display_name", "custom_instructions", "max_tokens"] as const;

test("what was typed and not saved is there again, what was saved meanwhile is no change", () => {
  const kept = JSON.stringify({ display_name: "Ana", custom_instructions: "I am a nurse.", max_tokens: null, version: 3 });
  assert.deepEqual(keptChanges(kept, SETTINGS, NAMES), { custom_instructions: "I am a nurse." });
});

test("what cannot be read changes nothing", () => {
  for (const text of ["", "{", "null", "5", "[]"]) assert.deepEqual(keptChanges(text, SETTINGS, NAMES), {});
});
