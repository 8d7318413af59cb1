// What the stories of @supabase/supabase-js have in common.
import { createRequire } from "node:module";
import { same } from "./stories.mjs";

const require = createRequire(import.meta.url);
export const { createClient } = require("@supabase/supabase-js");
export const password = "Correct-Horse-42-battery";

// A browser's memory: who has the same is the same browser.
export const storage = () => {
  const kept = new Map();
  return {
    getItem: (name) => kept.get(name) ?? null,
    setItem: (name, value) => void kept.set(name, value),
    removeItem: (name) => void kept.delete(name),
  };
};

export const fine = ({ data, error }) => {
  if (error) throw new Error(`${error.name} ${error.code}: ${error.message}`);
  return data;
};

export const refused = ({ error }, code, status) =>
  same([error?.code, error?.status], [code, status], "refusal");
