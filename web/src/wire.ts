/** The shapes the server speaks, as the HTTP reference describes them. */
import type { UIMessage } from "ai";

export interface ServerConfig {
  name: string;
  version: string;
  publishable_key: string;
  signup: boolean;
  /** Whom people can sign in with, beside a password. */
  providers: { id: string; title: string }[];
  /** Links and codes can be mailed. */
  mail: boolean;
  passkeys: boolean;
  anonymous_chat: boolean;
  /** ELIZA answers; else whatever is called so stands for an application that does. */
  built_in_model: boolean;
  environment: string;
}

export interface ModelChoice {
  id: string;
  name: string;
}

export interface ModelList {
  default: string;
  models: ModelChoice[];
}

export interface Conversation {
  id: string;
  title: string | null;
  created_at: string;
  updated_at: string;
}

export interface ConversationPage {
  user_id: string;
  conversations: Conversation[];
  next_cursor: string | null;
}

/** A message that has all of the words one looked for. */
export interface FoundMessage {
  conversation_id: string;
  message_id: string;
  title: string | null;
  role: "user" | "assistant" | "system";
  created_at: string;
  passage: { text: string; match: boolean }[];
}

export interface FoundMessages {
  order: "best" | "newest";
  found: FoundMessage[];
  next_cursor: string | null;
}

/** A link that shows one branch of a chat, without what opens it. */
export interface Share {
  id: string;
  conversation_id: string;
  head_id: string;
  created_at: string;
  expires_at: string;
}

export interface NewShare extends Share {
  url: string;
}

export type MessageStatus = "done" | "queued" | "running" | "stopped" | "failed" | "interrupted";

export interface StoredMessage {
  id: string;
  role: "user" | "assistant" | "system";
  content: string;
  created_at: string;
  parts: UIMessage["parts"] | null;
  parent_id: string | null;
  client_id: string | null;
  status: MessageStatus;
  model: string | null;
  run_id: string | null;
  error: { code: string; message: string } | null;
  /** Why the model ended it, as the AI SDK says it; null for what no model has ended. */
  finish_reason: string | null;
  siblings: string[];
}

export interface MessagePage {
  conversation_id: string;
  title: string | null;
  active_run: string | null;
  next_cursor: string | null;
  messages: StoredMessage[];
}

export interface Range {
  min: number;
  max: number;
}

export interface SettingsValues {
  temperature: number | null;
  top_p: number | null;
  max_tokens: number | null;
  system_prompt: string | null;
  default_model: string | null;
  display_name: string | null;
  custom_instructions: string | null;
  theme: "system" | "light" | "dark" | null;
  locale: string | null;
}

export type SettingName = keyof SettingsValues;

export interface Settings extends SettingsValues {
  version: number;
  effective: {
    model: string | null;
    temperature: number | null;
    top_p: number | null;
    max_tokens: number | null;
  };
  policy: {
    models: string[] | null;
    locked: string[];
    temperature: Range | null;
    top_p: Range | null;
    max_tokens: Range | null;
  };
}

/** One budget of the caller; amounts are exact, so they are text. */
export interface Budget {
  name: string;
  unit: string;
  limit: string;
  /** With what answers being made have reserved; null for one of each answer. */
  used: string | null;
  left: string;
  resets_at: string | null;
}

export interface Used {
  answers: number;
  prompt_tokens: number;
  completion_tokens: number;
  cost: string;
}

export interface UsageReport {
  days: number;
  budgets: Budget[];
  this_month: Used;
  by_day: (Used & { day: string })[];
  by_model: (Used & { model: string })[];
}

/** A personal API key, without what it is shown by. */
export interface ApiKey {
  id: string;
  name: string;
  prefix: string;
  scopes: string[];
  created_at: string;
  expires_at: string;
  last_used_at: string | null;
  ended_at: string | null;
  reason: string | null;
}

export interface NewApiKey extends ApiKey {
  key: string;
}

export interface ApiKeyList {
  keys: ApiKey[];
  scopes: { name: string; description: string }[];
  at_most: number;
  max_days: number;
}

/** One place where somebody is signed in. */
export interface DeviceSession {
  id: string;
  issuer: string;
  device: string | null;
  address: string | null;
  created_at: string;
  last_seen_at: string;
  expires_at: string;
  current: boolean;
}
