/** Stay at the newest line, unless the reader scrolled up to read. */
import { useEffect, useLayoutEffect, useRef, useState } from "react";

const AT_BOTTOM_PX = 24;

export function useStickyScroll(firstKey: string | undefined) {
  const scroller = useRef<HTMLDivElement>(null);
  const content = useRef<HTMLDivElement>(null);
  const stuck = useRef(true);
  const [away, setAway] = useState(false);
  const fromBottom = useRef(0);

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
    let lastTop = box.scrollTop;
    const scrolled = () => {
      const distance = box.scrollHeight - box.scrollTop - box.clientHeight;
      // Only the reader moves up; growing text and our own scrolling move down.
      if (distance <= AT_BOTTOM_PX) setStuck(true);
      else if (box.scrollTop < lastTop - 1) setStuck(false);
      lastTop = box.scrollTop;
      fromBottom.current = box.scrollHeight - box.scrollTop;
    };
    const observer = new ResizeObserver(() => {
      if (stuck.current) box.scrollTop = box.scrollHeight;
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

  return { scroller, content, away, toBottom, toMessage };
}
