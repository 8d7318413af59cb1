/**
 * Pictures as a person sees them: small beside what is typed and said, whole when asked for.
 *
 * A picture reaches the page only as an object URL of its bytes: it is its owner's, whose token an
 * address in `src` would not carry. Each URL is given back as soon as nothing shows it.
 */
import { useEffect, useRef, useState } from "react";
import { SessionOver } from "../api";
import { Button } from "../ui/controls";
import { Dialog } from "../ui/dialog";
import { saveFile } from "../ui/hooks";
import { useWorkspace } from "../workspace";
import type { OwnPictureProps } from "./markdown";

// What every browser shows and what runs nothing: the server hands out these as pictures, too.
const SHOWN = /^image\/(png|jpeg|gif|webp)$/;

export function isPicture(mediaType: string): boolean {
  return SHOWN.test(mediaType);
}

/** An address of *blob*, for as long as it is shown. */
function useObjectUrl(blob: Blob | null): string | undefined {
  const [url, setUrl] = useState<string>();
  useEffect(() => {
    if (blob === null) return;
    const made = URL.createObjectURL(blob);
    setUrl(made);
    return () => {
      setUrl(undefined);
      URL.revokeObjectURL(made);
    };
  }, [blob]);
  return url;
}

interface PictureProps {
  /** The picture itself, or where the server has it. */
  source: Blob | string;
  alt: string;
  /** There are bytes to show. */
  onLoaded?: (blob: Blob) => void;
  /** It cannot be had, or is none. */
  onFailed: () => void;
}

/** A small picture in a frame of a fixed size: nothing moves when it arrives. */
export function Picture({ source, alt, onLoaded, onFailed }: PictureProps) {
  const { api } = useWorkspace();
  const [blob, setBlob] = useState(source instanceof Blob ? source : null);
  const frame = useRef<HTMLSpanElement>(null);
  const url = useObjectUrl(blob);

  useEffect(() => {
    const node = frame.current;
    if (source instanceof Blob || node === null) return;
    const abort = new AbortController();
    const load = async () => {
      try {
        const response = await api.fetch(source, { signal: abort.signal });
        const loaded = await response.blob();
        // Another type would be read as what it says it is, were the picture opened by itself.
        if (!isPicture(loaded.type)) return onFailed();
        setBlob(loaded);
        onLoaded?.(loaded);
      } catch (error) {
        if (!abort.signal.aborted && !(error instanceof SessionOver)) onFailed();
      }
    };
    // A long chat loads the pictures that somebody comes near.
    const observer = new IntersectionObserver(
      (entries) => {
        if (!entries.some((entry) => entry.isIntersecting)) return;
        observer.disconnect();
        void load();
      },
      { rootMargin: "600px" },
    );
    observer.observe(node);
    return () => {
      observer.disconnect();
      abort.abort();
    };
  }, [source, api]);

  return (
    <span ref={frame} className={url === undefined ? "picture is-loading" : "picture"}>
      {url === undefined ? null : <img src={url} alt={alt} onError={onFailed} />}
    </span>
  );
}

/** A picture among the reader's own files, in the midst of what is said. */
export function SaidPicture({ path, alt, otherwise }: OwnPictureProps) {
  const [failed, setFailed] = useState(false);
  return failed ? otherwise : <Picture source={path} alt={alt} onFailed={() => setFailed(true)} />;
}

/** The picture as large as the window lets it be, and a way to keep it. */
export function PictureDialog({ blob, name, onClose }: { blob: Blob; name: string; onClose: () => void }) {
  const url = useObjectUrl(blob);
  return (
    <Dialog title={name} className="dialog-picture" onClose={onClose}>
      {url === undefined ? null : <img src={url} alt={name} />}
      <div className="row row-end">
        <Button icon="download" onClick={() => saveFile(blob, name)}>
          Save
        </Button>
      </div>
    </Dialog>
  );
}
