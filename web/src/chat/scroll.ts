/** Stay at the newest line, unless the reader scrolled up to read. */
import { useEffect, useLayoutEffect, useRef, useState } from "react";

const AT_BOTTOM_PX = 24;
const LINE_PX = 60;

export function useStickyScroll(firstKey: string | undefined) {
  const scroller = useRef<HTMLDivElement>(null);
  const content = useRef<HTMLDivElement>(null);
  const stuck = useRef(true);
  const [away, setAway] = useState(false);
  const fromBottom = useRef(0);
  // A page that says nothing yet is read from its top.
  const empty = useRef(true);
  empty.current = firstKey === undefined;

  const setStuck = (value: boolean) => {
    stuck.current = value;
    setAway(!value);
  };

  const toBottom = (smooth = false) => {
    const box = scroller.current;
    if (!box) return;
    setStuck(true);
    const calm = matchMedia("(prefers-reduced-motion: reduce)").matches;
    box.scrollTo({ top: box.scrollHeight, behavior: smooth && !calm ? "smooth" : "instant" });
  };

  useEffect(() => {
    const box = scroller.current;
    const inner = content.current;
    if (!box || !inner) return;
    let last = { top: box.scrollTop, room: box.clientHeight, height: box.scrollHeight };
    const scrolled = () => {
      const now = { top: box.scrollTop, room: box.clientHeight, height: box.scrollHeight };
      const distance = now.height - now.top - now.room;
      // Growing text and our own scrolling move down. The reader moves up, and so does the browser
      // where there is less to scroll than before.
      const fits = now.room === last.room && now.height >= last.height;
      if (distance <= AT_BOTTOM_PX) setStuck(true);
      else if (fits && now.top < last.top - 1) setStuck(false);
      last = now;
      fromBottom.current = box.scrollHeight - box.scrollTop;
    };
    const observer = new ResizeObserver(() => {
      if (stuck.current && !empty.current) box.scrollTop = box.scrollHeight;
    });
    observer.observe(inner);
    observer.observe(box);
    box.addEventListener("scroll", scrolled, { passive: true });
    return () => {
      observer.disconnect();
      box.removeEventListener("scroll", scrolled);
    };
  }, []);

  // Older messages came in above: what is being read must not move.
  const before = useRef(firstKey);
  useLayoutEffect(() => {
    const box = scroller.current;
    if (box && before.current !== undefined && before.current !== firstKey && !stuck.current) {
      box.scrollTop = box.scrollHeight - fromBottom.current;
    }
    before.current = firstKey;
  }, [firstKey]);

  const byPage = (direction: -1 | 1) => {
    const box = scroller.current;
    // A line of what was read stays in sight.
    box?.scrollBy({ top: direction * Math.max(box.clientHeight - LINE_PX, LINE_PX), behavior: "instant" });
  };

  /** Show one message, wherever the reader was; false when it is not on this page. */
  const toMessage = (id: string): boolean => {
    const message = content.current?.querySelector(`#m-${CSS.escape(id)}`);
    if (!message) return false;
    message.scrollIntoView({ block: "center" });
    const box = scroller.current;
    setStuck(box !== null && box.scrollHeight - box.scrollTop - box.clientHeight <= AT_BOTTOM_PX);
    message.classList.add("is-found");
    return true;
  };

  return { scroller, content, away: away && firstKey !== undefined, toBottom, toMessage, byPage };
}
