/** A fenced block of code with its language, a copy button, and colours once they are loaded. */
import { useEffect, useState, type ReactNode } from "react";
import { CopyButton } from "./copy-button";

// A block that is still being written is coloured at this pace, not at every piece.
const PAUSE_MS = 120;

export function CodeBlock({ code, language }: { code: string; language: string }) {
  const [coloured, setColoured] = useState<{ code: string; node: ReactNode } | null>(null);

  useEffect(() => {
    if (language === "") return;
    let current = true;
    const timer = setTimeout(async () => {
      try {
        const { highlight } = await import("./highlighter");
        const node = await highlight(code, language.toLowerCase());
        if (current && node !== null) setColoured({ code, node });
      } catch (error) {
        // Offline, or a newer version was deployed: plain code is still readable.
        console.info("No syntax colours:", error);
      }
    }, PAUSE_MS);
    return () => {
      current = false;
      clearTimeout(timer);
    };
  }, [code, language]);

  // While more is being written, the coloured beginning is kept and the rest follows plain.
  const usable = coloured !== null && code.startsWith(coloured.code);
  return (
    <div className="code-block">
      <div className="code-head">
        <span>{language || "text"}</span>
        <CopyButton text={code} label="Copy code" />
      </div>
      <pre tabIndex={0} aria-label={language ? `Code in ${language}` : "Code"}>
        <code>
          {usable ? coloured.node : null}
          {usable ? code.slice(coloured.code.length) : code}
        </code>
      </pre>
    </div>
  );
}
