import { useEffect, useState } from "react";
import { IconButton } from "../ui/controls";
import { announce } from "../ui/announce";
import { copyText } from "../ui/hooks";
import { toast } from "../ui/toasts";

const SHOWN_MS = 1_600;

/** Copies *text* and says so, to the eye and to a screen reader. */
export function CopyButton({ text, label }: { text: string; label: string }) {
  const [copied, setCopied] = useState(false);

  useEffect(() => {
    if (!copied) return;
    const timer = setTimeout(() => setCopied(false), SHOWN_MS);
    return () => clearTimeout(timer);
  }, [copied]);

  const copy = async () => {
    try {
      await copyText(text);
      setCopied(true);
      announce("Copied");
    } catch (error) {
      toast(`Could not copy: ${error instanceof Error ? error.message : "the browser refused."}`, { tone: "error" });
    }
  };
  return <IconButton label={label} icon={copied ? "check" : "copy"} size={16} className={copied ? "is-done" : ""} onClick={() => void copy()} />;
}
