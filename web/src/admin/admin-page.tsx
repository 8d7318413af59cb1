/** The admin console: figures, people, the log, and old tokens. Nobody's conversations. */
import { useEffect, useRef, type ReactNode } from "react";
import "./admin.css";
import { Link, navigate } from "../router";
import { Button, FullPage } from "../ui/controls";
import { useTitle } from "../ui/hooks";
import { AuditPage } from "./audit";
import { ClaimsPage } from "./claims";
import { OverviewPage } from "./overview";
import { PeoplePage } from "./people";
import { PersonPage } from "./person";

const PAGES: { path: string; name: string; show: () => ReactNode }[] = [
  { path: "", name: "Overview", show: OverviewPage },
  { path: "people", name: "People", show: PeoplePage },
  { path: "audit", name: "Audit log", show: AuditPage },
  { path: "claims", name: "Old tokens", show: ClaimsPage },
];

function shownAt(path: string): { current: string; name: string; shown: ReactNode } | null {
  const person = /^people\/([^/]+)$/.exec(path)?.[1];
  if (person !== undefined) {
    try {
      const id = decodeURIComponent(person);
      return { current: "people", name: "A person", shown: <PersonPage key={id} id={id} /> };
    } catch {
      return null;
    }
  }
  const found = PAGES.find((one) => one.path === path);
  return found ? { current: found.path, name: found.name, shown: <found.show /> } : null;
}

export default function AdminPage({ path }: { path: string }) {
  const heading = useRef<HTMLHeadingElement>(null);
  const page = shownAt(path);
  useTitle(page === null ? "Administration" : `${page.name} · Administration`);

  useEffect(() => heading.current?.focus(), [path]);

  return (
    <div className="settings-scroll">
      <div className="settings admin">
        <h1 ref={heading} tabIndex={-1}>
          Administration
        </h1>
        <nav className="tabs" aria-label="Administration">
          {PAGES.map((one) => (
            <Link key={one.path} href={one.path === "" ? "/admin" : `/admin/${one.path}`} aria-current={one.path === page?.current ? "page" : undefined}>
              {one.name}
            </Link>
          ))}
        </nav>
        {page?.shown ?? <FullPage title="There is nothing here" actions={<Button tone="primary" onClick={() => navigate("/admin")}>Go to the overview</Button>} />}
      </div>
    </div>
  );
}
