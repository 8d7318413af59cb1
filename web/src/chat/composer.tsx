/** Where one types. Enter sends, Shift+Enter makes a line; on a touch screen Enter makes a line. */
import { useEffect, useLayoutEffect, useRef, type KeyboardEvent, type Ref, useImperativeHandle } from "react";
import { IconButton } from "../ui/controls";
import { AttachmentList, type Attachments } from "./attachments";
import { isComposing } from "../ui/composing";
import { fitToText, isTouch } from "../ui/hooks";
import { pastesText } from "./typed";

export interface ComposerHandle {
  focus: () => void;
}

interface ComposerProps {
  ref?: Ref<ComposerHandle>;
  text: string;
  onChange: (text: string) => void;
  onSend: () => void;
  onStop: () => void;
  /** Scroll what was said by a page, up (-1) or down (1). */
  onPage: (direction: -1 | 1) => void;
  answering: boolean;
  blocked: boolean;
  placeholder: string;
  attachments: Attachments;
}

export function Composer({ ref, text, onChange, onSend, onStop, onPage, answering, blocked, placeholder, attachments }: ComposerProps) {
  const area = useRef<HTMLTextAreaElement>(null);
  const chooser = useRef<HTMLInputElement>(null);

  useImperativeHandle(ref, () => ({ focus: () => area.current?.focus() }), []);

  useLayoutEffect(() => fitToText(area.current), [text]);

  useEffect(() => {
    const box = area.current;
    if (!box || isTouch()) return;
    box.focus();
    box.setSelectionRange(box.value.length, box.value.length);
  }, []);

  const empty = text.trim() === "" && attachments.items.length === 0;
  // The button that was pressed goes away: who has a keyboard types on.
  const typeOn = () => {
    if (!isTouch()) area.current?.focus();
  };
  const send = () => {
    if (empty || blocked) return;
    onSend();
    typeOn();
  };
  const onKeyDown = (event: KeyboardEvent<HTMLTextAreaElement>) => {
    const { key, currentTarget: box } = event;
    // Where all that is typed is seen, these keys have nothing to do in it.
    if ((key === "PageUp" || key === "PageDown") && box.scrollHeight <= box.clientHeight) {
      event.preventDefault();
      onPage(key === "PageUp" ? -1 : 1);
    }
    if (event.key !== "Enter" || event.shiftKey || isComposing(event.nativeEvent) || isTouch()) return;
    event.preventDefault();
    send();
  };

  return (
    <form
      className="composer"
      onSubmit={(event) => {
        event.preventDefault();
        send();
      }}
      onPaste={(event) => {
        if (event.clipboardData.files.length === 0 || pastesText(event.clipboardData.types)) return;
        event.preventDefault();
        attachments.add(event.clipboardData.files);
      }}
    >
      <AttachmentList attachments={attachments} />
      <input
        ref={chooser}
        type="file"
        multiple
        hidden
        aria-label="Files"
        onChange={(event) => {
          attachments.add(event.target.files ?? []);
          event.target.value = "";
          area.current?.focus();
        }}
      />
      <IconButton label="Attach files" icon="clip" className="composer-button" onClick={() => chooser.current?.click()} />
      <textarea
        ref={area}
        id="message"
        rows={1}
        dir="auto"
        value={text}
        aria-label="Message"
        aria-keyshortcuts="Enter"
        placeholder={placeholder}
        onChange={(event) => onChange(event.target.value)}
        onKeyDown={onKeyDown}
      />
      {answering ? (
        <IconButton
          label="Stop answering"
          hint="Esc"
          icon="stop"
          className="composer-button composer-stop"
          onClick={(event) => {
            // The second half of a double click meant what stood here before: to send.
            if (event.detail < 2) onStop();
            typeOn();
          }}
        />
      ) : null}
      {answering && empty ? null : (
        <IconButton label="Send message" hint="Enter" icon="arrowUp" type="submit" className="composer-button composer-send" disabled={empty || blocked} />
      )}
    </form>
  );
}
