/** One set of line icons, drawn on a 24 px grid; decorative, so hidden from screen readers. */
import type { ReactNode } from "react";

const PATHS = {
  plus: <path d="M12 5v14M5 12h14" />,
  search: (<><circle cx="11" cy="11" r="6.5" /><path d="m16 16 4.5 4.5" /></>),
  more: (<><circle cx="5.5" cy="12" r="1.25" fill="currentColor" stroke="none" /><circle cx="12" cy="12" r="1.25" fill="currentColor" stroke="none" /><circle cx="18.5" cy="12" r="1.25" fill="currentColor" stroke="none" /></>),
  pencil: <path d="m14.5 5.5 4 4M4.5 19.5l1-4.5L16 4.5a2.1 2.1 0 0 1 3 0l.5.5a2.1 2.1 0 0 1 0 3L9 18.5z" />,
  trash: <path d="M4.5 7h15M10 11v5.5M14 11v5.5M6.5 7l.8 11.2a2 2 0 0 0 2 1.8h5.4a2 2 0 0 0 2-1.8L17.5 7M9 7V5.5a1.5 1.5 0 0 1 1.5-1.5h3a1.5 1.5 0 0 1 1.5 1.5V7" />,
  download: <path d="M12 4v10.5m0 0 4-4m-4 4-4-4M5 19.5h14" />,
  copy: (<><rect x="8.5" y="8.5" width="11" height="11" rx="2.5" /><path d="M15.5 8.5V7A2.5 2.5 0 0 0 13 4.5H7A2.5 2.5 0 0 0 4.5 7v6A2.5 2.5 0 0 0 7 15.5h1.5" /></>),
  check: <path d="m5 12.5 4.5 4.5L19 7.5" />,
  refresh: <path d="M19.5 5v4.5H15M19.2 9.5A7.75 7.75 0 1 0 19.75 13" />,
  left: <path d="m14.5 6-6 6 6 6" />,
  right: <path d="m9.5 6 6 6-6 6" />,
  down: <path d="m6 9.5 6 6 6-6" />,
  arrowDown: <path d="M12 5v14m0 0 5.5-5.5M12 19l-5.5-5.5" />,
  arrowUp: <path d="M12 19V5m0 0 5.5 5.5M12 5l-5.5 5.5" />,
  stop: <rect x="7" y="7" width="10" height="10" rx="2" fill="currentColor" stroke="none" />,
  sidebar: (<><rect x="3.5" y="4.5" width="17" height="15" rx="3" /><path d="M9.5 4.5v15" /></>),
  menu: <path d="M4.5 8h15M4.5 16h10" />,
  close: <path d="m6 6 12 12M18 6 6 18" />,
  settings: (<><path d="M4 7.5h8m6 0h2M4 16.5h2m6 0h8" /><circle cx="15" cy="7.5" r="2.5" /><circle cx="9" cy="16.5" r="2.5" /></>),
  signOut: <path d="M10 4.5H7A2.5 2.5 0 0 0 4.5 7v10A2.5 2.5 0 0 0 7 19.5h3M10.5 12h9m0 0L16 8.5m3.5 3.5L16 15.5" />,
  eye: (<><path d="M2.5 12S6 5.5 12 5.5 21.5 12 21.5 12 18 18.5 12 18.5 2.5 12 2.5 12z" /><circle cx="12" cy="12" r="2.75" /></>),
  eyeOff: <path d="M4 4l16 16M9.9 5.8A8.6 8.6 0 0 1 12 5.5c6 0 9.5 6.5 9.5 6.5a16 16 0 0 1-2.6 3.4M6.3 7.3A15.4 15.4 0 0 0 2.5 12S6 18.5 12 18.5a8.9 8.9 0 0 0 4.3-1.1M10 10.2a2.75 2.75 0 0 0 3.8 3.9" />,
  device: (<><rect x="3.5" y="5" width="17" height="11" rx="2" /><path d="M2.5 19.5h19" /></>),
  key: (<><circle cx="8" cy="15.5" r="4" /><path d="m11 12.5 8-8M16 7.5l2.5 2.5M13.5 10l2 2" /></>),
  fork: (<><circle cx="6.5" cy="5.5" r="2" /><circle cx="17.5" cy="5.5" r="2" /><circle cx="12" cy="18.5" r="2" /><path d="M6.5 7.5v2a3 3 0 0 0 3 3h5a3 3 0 0 0 3-3v-2M12 12.5v4" /></>),
  link: <path d="M9.5 14.5l5-5M11 6.5l1.6-1.6a4.6 4.6 0 0 1 6.5 6.5L17.5 13M13 17.5l-1.6 1.6a4.6 4.6 0 0 1-6.5-6.5L6.5 11" />,
  clip: <path d="m19 11.5-7.2 7.2a4.6 4.6 0 0 1-6.5-6.5l7.6-7.6a3.1 3.1 0 0 1 4.4 4.4l-7.5 7.5a1.55 1.55 0 0 1-2.2-2.2l6.8-6.8" />,
  alert: (<><circle cx="12" cy="12" r="8.5" /><path d="M12 8v4.5M12 15.8v.2" /></>),
  offline: <path d="M4 4l16 16M8.5 15.5a5 5 0 0 1 6.5-.4M5.3 12.2a9.5 9.5 0 0 1 3.9-2.3M2.5 9a13.5 13.5 0 0 1 4-2.5M12 6c3.6 0 7 1.1 9.5 3M15.2 10.5c1.3.4 2.5 1 3.5 1.8M12 19v.1" />,
  book: <path d="M5 5.5A2 2 0 0 1 7 3.5h12v14H7a2 2 0 0 0-2 2zm0 14a1 1 0 0 0 1 1h13v-3" />,
  bulb: <path d="M9.5 18h5M10 21h4M8.5 14.5a6 6 0 1 1 7 0c-.7.6-1 1.2-1 2v1.5h-5V16.5c0-.8-.3-1.4-1-2z" />,
  chart: <path d="M4.5 19.5h15M7.5 16v-4M12 16V6.5M16.5 16v-7" />,
  tool: <path d="M14.5 6.5a4 4 0 0 1 5-1.5l-2.8 2.8.3 2.2 2.2.3L20 8.5a4 4 0 0 1-5.5 4.5l-6.5 6.5a2 2 0 0 1-3-3l6.5-6.5a4 4 0 0 1 3-3.5z" />,
} satisfies Record<string, ReactNode>;

export type IconName = keyof typeof PATHS;

export function Icon({ name, size = 18 }: { name: IconName; size?: number }) {
  return (
    <svg className="icon" width={size} height={size} viewBox="0 0 24 24" aria-hidden="true" focusable="false">
      {PATHS[name]}
    </svg>
  );
}

/** The product's mark: a speech bubble with battlements. */
export function Mark({ size = 28 }: { size?: number }) {
  return (
    <svg className="mark" width={size} height={size} viewBox="0 0 32 32" aria-hidden="true" focusable="false">
      <rect width="32" height="32" rx="9" />
      <path d="M8 8h3.6v2.6h2.6V8h3.6v2.6h2.6V8H24v11.2a2.8 2.8 0 0 1-2.8 2.8h-5.6L11 26v-4h-.2A2.8 2.8 0 0 1 8 19.2z" />
    </svg>
  );
}
