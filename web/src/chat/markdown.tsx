/**
 * A model's Markdown as elements, never as HTML: raw tags stay text, links open outside, and
 * pictures are shown only from this server or from the text itself, so that no answer can make a
 * reader's browser call somebody else.
 */
import { createContext, isValidElement, memo, useContext, type ReactNode } from "react";
import ReactMarkdown, { defaultUrlTransform, type Components } from "react-markdown";
import remarkGfm from "remark-gfm";
import { splitBlocks } from "./blocks";
import { CodeBlock } from "./code-block";

const INLINE_PICTURE = /^data:image\/(png|jpe?g|gif|webp|avif);/i;
const PLUGINS = [remarkGfm];

/** Whether pictures of this server are shown: not where a stranger wrote what is read. */
export const OwnPictures = createContext(true);

function safeUrl(url: string, key: string): string {
  return key === "src" && INLINE_PICTURE.test(url) ? url : defaultUrlTransform(url);
}

function isOurs(url: string): boolean {
  return INLINE_PICTURE.test(url) || (URL.canParse(url, location.href) && new URL(url, location.href).origin === location.origin);
}

function plainText(node: ReactNode): string {
  if (typeof node === "string" || typeof node === "number") return String(node);
  if (Array.isArray(node)) return node.map(plainText).join("");
  return "";
}

function ToldPicture({ src, alt }: { src: string; alt: string }) {
  const own = useContext(OwnPictures);
  if (own ? isOurs(src) : INLINE_PICTURE.test(src)) return <img src={src} alt={alt} loading="lazy" />;
  return (
    <a href={src} target="_blank" rel="noopener noreferrer nofollow">
      {alt || src}
    </a>
  );
}

const COMPONENTS: Components = {
  a: ({ href, children }) =>
    href ? (
      <a href={href} target="_blank" rel="noopener noreferrer nofollow">
        {children}
      </a>
    ) : (
      <span>{children}</span>
    ),
  img: ({ src, alt }) => (typeof src === "string" && src !== "" ? <ToldPicture src={src} alt={alt ?? ""} /> : <span>{alt}</span>),
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

const Block = memo(function Block({ text }: { text: string }) {
  return (
    <ReactMarkdown remarkPlugins={PLUGINS} components={COMPONENTS} urlTransform={safeUrl}>
      {text}
    </ReactMarkdown>
  );
});

export const Markdown = memo(function Markdown({ text }: { text: string }) {
  return (
    <div className="prose">
      {splitBlocks(text).map((block, index) => (
        // Pieces are only ever appended, so the place is the identity.
        <Block key={index} text={block} />
      ))}
    </div>
  );
});
