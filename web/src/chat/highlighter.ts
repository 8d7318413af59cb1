/** Syntax colours for the languages people paste most, loaded when the first code block is shown. */
import type { LanguageFn } from "highlight.js";
import { toJsxRuntime } from "hast-util-to-jsx-runtime";
import { createLowlight } from "lowlight";
import type { ReactNode } from "react";
import { Fragment, jsx, jsxs } from "react/jsx-runtime";

type Loader = () => Promise<{ default: LanguageFn }>;

const LANGUAGES: Record<string, Loader> = {
  bash: () => import("highlight.js/lib/languages/bash"),
  c: () => import("highlight.js/lib/languages/c"),
  cpp: () => import("highlight.js/lib/languages/cpp"),
  csharp: () => import("highlight.js/lib/languages/csharp"),
  css: () => import("highlight.js/lib/languages/css"),
  diff: () => import("highlight.js/lib/languages/diff"),
  dockerfile: () => import("highlight.js/lib/languages/dockerfile"),
  go: () => import("highlight.js/lib/languages/go"),
  ini: () => import("highlight.js/lib/languages/ini"),
  java: () => import("highlight.js/lib/languages/java"),
  javascript: () => import("highlight.js/lib/languages/javascript"),
  json: () => import("highlight.js/lib/languages/json"),
  kotlin: () => import("highlight.js/lib/languages/kotlin"),
  lua: () => import("highlight.js/lib/languages/lua"),
  markdown: () => import("highlight.js/lib/languages/markdown"),
  php: () => import("highlight.js/lib/languages/php"),
  python: () => import("highlight.js/lib/languages/python"),
  ruby: () => import("highlight.js/lib/languages/ruby"),
  rust: () => import("highlight.js/lib/languages/rust"),
  sql: () => import("highlight.js/lib/languages/sql"),
  swift: () => import("highlight.js/lib/languages/swift"),
  typescript: () => import("highlight.js/lib/languages/typescript"),
  xml: () => import("highlight.js/lib/languages/xml"),
  yaml: () => import("highlight.js/lib/languages/yaml"),
};

const ALIASES: Record<string, string> = {
  "c#": "csharp", "c++": "cpp", cc: "cpp", console: "bash", cs: "csharp", docker: "dockerfile", golang: "go",
  h: "c", hpp: "cpp", html: "xml", js: "javascript", jsx: "javascript", kt: "kotlin", md: "markdown",
  patch: "diff", py: "python", rb: "ruby", rs: "rust", sh: "bash", shell: "bash", svg: "xml", toml: "ini",
  ts: "typescript", tsx: "typescript", vue: "xml", yml: "yaml", zsh: "bash",
};

// Colouring runs on the page's own thread: longer code stays plain.
const LONGEST = 40_000;

const lowlight = createLowlight();

export async function highlight(code: string, language: string): Promise<ReactNode | null> {
  const name = ALIASES[language] ?? language;
  const load = LANGUAGES[name];
  if (!load || code.length > LONGEST) return null;
  if (!lowlight.registered(name)) lowlight.register(name, (await load()).default);
  return toJsxRuntime(lowlight.highlight(name, code), { Fragment, jsx, jsxs });
}
