/**
 * A model's Markdown as elements, never as HTML: raw tags stay text, links open outside, and
 * pictures are shown only from the reader's own files or from the text itself, so that no answer
 * can make a reader's browser call somebody else, nor this server for anything but a file.
 */
import { createContext, isValidElement, memo, useContext, useEffect, useId, useLayoutEffect, useMemo, useRef, useState, type ComponentType, type MouseEvent, type ReactNode } from "react";
import ReactMarkdown, { defaultUrlTransform, type Components } from "react-markdown";
import remarkGfm from "remark-gfm";
import { splitBlocks } from "./blocks";
import { CodeBlock } from "./code-block";
import { Formula } from "./formula";
import { remarkFormulas } from "./formula-syntax";

const INLINE_PICTURE = /^data:image\/(png|jpe?g|gif|webp|avif);/i;
// As `POST /api/files` hands it out, and nothing behind it.
const OWN_FILE = /^\/api\/files\/[A-Za-z0-9_-]{1,100}$/;
const PLUGINS = [remarkGfm, remarkFormulas];

export interface OwnPictureProps {
  path: string;
  alt: string;
  /** What is shown where it cannot be had. */
  otherwise: ReactNode;
}

/** Shows a picture among the reader's own files; null where a stranger wrote what is read. */
export const OwnPicture = createContext<ComponentType<OwnPictureProps> | null>(null);

function safeUrl(url: string, key: string): string {
  return key === "src" && INLINE_PICTURE.test(url) ? url : defaultUrlTransform(url);
}

/** The path of the file of this server that *url* names; null for any other address, here or elsewhere. */
function ownFileOf(url: string): string | null {
  if (!URL.canParse(url, location.href)) return null;
  const { origin, pathname, search } = new URL(url, location.href);
  return origin === location.origin && search === "" && OWN_FILE.test(pathname) ? pathname : null;
}

function plainText(node: ReactNode): string {
  if (typeof node === "string" || typeof node === "number") return String(node);
  if (Array.isArray(node)) return node.map(plainText).join("");
  return "";
}

function ToldPicture({ src, alt }: { src: string; alt: string }) {
  const Own = useContext(OwnPicture);
  if (INLINE_PICTURE.test(src)) return <img src={src} alt={alt} loading="lazy" />;
  const link = (
    <a href={src} target="_blank" rel="noopener noreferrer nofollow">
      {alt || src}
    </a>
  );
  const path = ownFileOf(src);
  return Own !== null && path !== null ? <Own key={path} path={path} alt={alt} otherwise={link} /> : link;
}

/** From a footnote's number to the note, and back: within this answer, and on this page. */
function goWithin(event: MouseEvent<HTMLAnchorElement>): void {
  event.preventDefault();
  const id = decodeURIComponent(event.currentTarget.hash.slice(1));
  const target = event.currentTarget.closest(".prose")?.querySelector<HTMLElement>(`#${CSS.escape(id)}`);
  if (!target) return;
  if (target.tabIndex < 0) target.tabIndex = -1;
  target.focus({ preventScroll: true });
  target.scrollIntoView({ block: "center" });
}

const COMPONENTS: Components & { formula: typeof Formula } = {
  formula: Formula,
  a: ({ href, children, id, "aria-label": label }) => {
    if (!href) return <span>{children}</span>;
    if (href.startsWith("#")) {
      return (
        <a href={href} id={id} aria-label={label} onClick={goWithin}>
          {children}
        </a>
      );
    }
    return (
      <a href={href} target="_blank" rel="noopener noreferrer nofollow">
        {children}
      </a>
    );
  },
  img: ({ src, alt }) => (typeof src === "string" && src !== "" ? <ToldPicture src={src} alt={alt ?? ""} /> : <span>{alt}</span>),
  // Of a list of tasks: nothing else has one.
  input: ({ checked }) => <input type="checkbox" aria-label="Done" disabled checked={checked === true} readOnly />,
  table: ({ children }) => (
    <div className="table-scroll" tabIndex={0} role="group" aria-label="Table">
      <table>{children}</table>
    </div>
  ),
  pre: ({ children }) => {
    if (!isValidElement<{ className?: string; children?: ReactNode }>(children)) return <pre>{children}</pre>;
    const language = /language-(\S+)/.exec(children.props.className ?? "")?.[1] ?? "";
    return <CodeBlock code={plainText(children.props.children).replace(/\n$/, "")} language={language} />;
  },
};

// What is shown faster than this is shown at once.
const QUICK_MS = 16;
const LONGEST_WAIT_MS = 1_000;

/** *text*, renewed so seldom that a long piece which is still being written leaves the page time for its reader. */
function usePaced(text: string): string {
  const [paced, setPaced] = useState(text);
  const last = useRef({ ended: 0, tookMs: 0 });
  const shown = last.current.tookMs < QUICK_MS ? text : paced;
  const began = performance.now();

  // After everything in this piece is on the page.
  useLayoutEffect(() => {
    const ended = performance.now();
    last.current = { ended, tookMs: ended - began };
  }, [shown]);

  useEffect(() => {
    if (text === paced) return;
    const { ended, tookMs } = last.current;
    const wait = tookMs < QUICK_MS ? 0 : ended + Math.min(3 * tookMs, LONGEST_WAIT_MS) - performance.now();
    const timer = setTimeout(() => setPaced(text), Math.max(0, wait));
    return () => clearTimeout(timer);
  }, [text, paced]);

  return shown;
}

const Block = memo(function Block({ text, prefix }: { text: string; prefix: string }) {
  // Footnotes of two answers have the same names.
  const naming = useMemo(() => ({ clobberPrefix: prefix }), [prefix]);
  const shown = usePaced(text);
  return useMemo(
    () => (
      <ReactMarkdown remarkPlugins={PLUGINS} remarkRehypeOptions={naming} components={COMPONENTS} urlTransform={safeUrl}>
        {shown}
      </ReactMarkdown>
    ),
    [shown, naming],
  );
});

export const Markdown = memo(function Markdown({ text }: { text: string }) {
  const prefix = `said${useId()}-`;
  return (
    <div className="prose">
      {splitBlocks(text).map((block, index) => (
        // Pieces are only ever appended, so the place is the identity.
        <Block key={index} text={block} prefix={prefix} />
      ))}
    </div>
  );
});
