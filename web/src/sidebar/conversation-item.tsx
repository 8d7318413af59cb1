/** One conversation in the list: open it, rename it where it stands, export it, delete it. */
import { memo, useEffect, useRef, useState } from "react";
import { describe } from "../api";
import { Link, navigate } from "../router";
import { isComposing } from "../ui/composing";
import { saveFile } from "../ui/hooks";
import { Icon } from "../ui/icons";
import { Menu } from "../ui/menu";
import { straight } from "../ui/straight";
import { toast } from "../ui/toasts";
import { useWorkspace } from "../workspace";
import type { Conversation } from "../wire";
import { ShareDialog } from "./share-dialog";

const UNTITLED = "New chat";
const LONGEST_TITLE = 200;

interface ItemProps {
  item: Conversation;
  current: boolean;
  onOpen: () => void;
}

export const ConversationItem = memo(function ConversationItem({ item, current, onOpen }: ItemProps) {
  const { api, conversations } = useWorkspace();
  const [renaming, setRenaming] = useState(false);
  const [sharing, setSharing] = useState(false);
  const row = useRef<HTMLLIElement>(null);
  const named = useRef(false);
  const title = straight(item.title ?? UNTITLED);

  const failed = (what: string) => (error: unknown) => toast(`${what}: ${describe(error)}`, { tone: "error" });

  useEffect(() => {
    if (!renaming && named.current) row.current?.querySelector("a")?.focus();
    named.current = false;
  }, [renaming]);

  const rename = (text: string, byKey: boolean) => {
    named.current = byKey;
    setRenaming(false);
    const wanted = text.trim();
    if (wanted === "" || wanted === item.title) return;
    conversations.rename(item.id, wanted).catch(failed("Could not rename the chat"));
  };

  const remove = async () => {
    const neighbour = row.current?.nextElementSibling ?? row.current?.previousElementSibling;
    const next = neighbour?.querySelector<HTMLElement>("a") ?? document.querySelector<HTMLElement>("#new-chat");
    try {
      const pending = conversations.remove(item.id);
      if (current) navigate("/");
      next?.focus();
      const restore = await pending;
      const undo = () =>
        void restore().then(() => {
          if (current) navigate(`/c/${item.id}`);
        }, failed("Could not bring the chat back"));
      toast(`“${title}” was deleted.`, { action: { label: "Undo", run: undo } });
    } catch (error) {
      failed("Could not delete the chat")(error);
    }
  };

  const save = async () => {
    try {
      const response = await api.fetch(`/api/v1/chat/${item.id}/export?format=markdown`);
      saveFile(await response.blob(), `${title.replace(/[^\p{L}\p{N} _-]+/gu, "").trim() || "chat"}.md`);
    } catch (error) {
      failed("Could not export the chat")(error);
    }
  };

  if (renaming) {
    return (
      <li className="item item-renaming" ref={row}>
        <RenameBox
          title={item.title ?? ""}
          onDone={rename}
          onCancel={() => {
            named.current = true;
            setRenaming(false);
          }}
        />
      </li>
    );
  }
  return (
    <li className={current ? "item is-current" : "item"} ref={row}>
      <Link href={`/c/${item.id}`} dir="auto" aria-current={current ? "page" : undefined} onClick={onOpen} title={title} onDoubleClick={() => setRenaming(true)}>
        {title}
      </Link>
      <Menu
        label={`Actions for ${title}`}
        actions={[
          { label: "Rename", icon: "pencil", run: () => setRenaming(true) },
          { label: "Share", icon: "link", run: () => setSharing(true) },
          { label: "Export as Markdown", icon: "download", run: () => void save() },
          { label: "Delete", icon: "trash", danger: true, run: () => void remove() },
        ]}
      >
        <Icon name="more" />
      </Menu>
      {sharing ? <ShareDialog id={item.id} title={title} onClose={() => setSharing(false)} /> : null}
    </li>
  );
});

function RenameBox({ title, onDone, onCancel }: { title: string; onDone: (title: string, byKey: boolean) => void; onCancel: () => void }) {
  const [text, setText] = useState(title);
  const box = useRef<HTMLInputElement>(null);
  const cancelled = useRef(false);
  const entered = useRef(false);

  useEffect(() => {
    // After the menu has given the focus back to its button.
    const frame = requestAnimationFrame(() => box.current?.select());
    return () => cancelAnimationFrame(frame);
  }, []);

  return (
    <input
      ref={box}
      className="rename-box"
      dir="auto"
      aria-label="Chat title"
      value={text}
      maxLength={LONGEST_TITLE}
      onChange={(event) => setText(event.target.value)}
      onBlur={() => (cancelled.current ? undefined : onDone(text, entered.current))}
      onKeyDown={(event) => {
        if (isComposing(event.nativeEvent)) return;
        if (event.key === "Enter") {
          entered.current = true;
          event.currentTarget.blur();
        }
        if (event.key !== "Escape") return;
        event.stopPropagation();
        cancelled.current = true;
        onCancel();
      }}
    />
  );
}
