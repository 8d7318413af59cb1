/** What the model did beside talking: the tools it used, or asks to use, and where it read. */
import { useRef } from "react";
import { Button } from "../ui/controls";
import { Icon } from "../ui/icons";
import { straight } from "../ui/straight";
import { Told } from "../ui/told";
import type { SourcePart, ToolPart } from "./messages";
import { written } from "./written";

interface ToolUseProps {
  part: ToolPart;
  streaming: boolean;
  /** Nothing can be decided: an answer is on its way, or the conversation has gone on. */
  locked: boolean;
  decide: (approvalId: string, approved: boolean) => void;
}

function heading(part: ToolPart, streaming: boolean): string {
  const name = straight(part.toolName);
  switch (part.state) {
    case "output-available":
      return `Used ${name}`;
    case "output-error":
      return `${name} failed`;
    case "output-denied":
      return `You did not allow ${name}`;
    case "approval-responded":
      return part.approval.approved ? `You allowed ${name}` : `You did not allow ${name}`;
    case "approval-requested":
      return `${name} was not decided`;
    default:
      return streaming ? `Using ${name}…` : `${name} has not answered`;
  }
}

export function ToolUse({ part, streaming, locked, decide }: ToolUseProps) {
  if (part.state === "approval-requested" && !locked) return <Approval part={part} approvalId={part.approval.id} decide={decide} />;
  const output = part.state === "output-available" ? part.output : part.state === "output-error" ? part.errorText : undefined;
  const working = streaming && (part.state === "input-available" || part.state === "input-streaming");
  return (
    <details className="fold">
      <summary>
        <Icon name="tool" size={16} />
        <span className={working ? "shimmer" : ""}>{heading(part, streaming)}</span>
        <Icon name="down" size={16} />
      </summary>
      <pre>{written(part.input)}</pre>
      {output === undefined ? null : <pre>{written(output)}</pre>}
    </details>
  );
}

function Approval({ part, approvalId, decide }: { part: ToolPart; approvalId: string; decide: ToolUseProps["decide"] }) {
  const decided = useRef(false);
  const say = (approved: boolean) => {
    // A second press before the page has changed must not say something else.
    if (decided.current) return;
    decided.current = true;
    document.querySelector<HTMLElement>("#message")?.focus();
    decide(approvalId, approved);
  };
  return (
    <section className="approval" aria-label={`Allow ${straight(part.toolName)}?`}>
      <p>
        <strong>
          <Told text={part.toolName} />
        </strong>{" "}
        is to be run with this. Do you allow it?
      </p>
      <pre tabIndex={0}>{written(part.input)}</pre>
      <div className="row">
        <Button tone="primary" icon="check" onClick={() => say(true)}>
          Yes
        </Button>
        <Button icon="close" onClick={() => say(false)}>
          No
        </Button>
      </div>
    </section>
  );
}

/** An address that a link may have; anything else a model says is no address. */
function webAddress(text: string): URL | null {
  const url = URL.canParse(text) ? new URL(text) : null;
  return url?.protocol === "https:" || url?.protocol === "http:" ? url : null;
}

export function Sources({ sources }: { sources: SourcePart[] }) {
  return (
    <ul className="sources" aria-label="Sources">
      {sources.map((source) => {
        const url = webAddress(source.url);
        const title = source.title || url?.hostname || source.url;
        return (
          <li key={source.sourceId}>
            {url ? (
              <a href={url.href} target="_blank" rel="noopener noreferrer" title={url.href}>
                <Icon name="link" size={14} />
                <span>
                  <Told text={title} />
                </span>
                <span className="visually-hidden"> (opens in a new window)</span>
              </a>
            ) : (
              <Told text={title} />
            )}
          </li>
        );
      })}
    </ul>
  );
}
