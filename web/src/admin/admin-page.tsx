/** The admin console: figures, people, the log, and old tokens. Nobody's conversations. */
import { useEffect, useRef, type ReactNode } from "react";
import "./admin.css";
import { Link, navigate } from "../router";
import { Button, FullPage } from "../ui/controls";
import { useTitle } from "../ui/hooks";
import { useWorkspace } from "../workspace";
import { AuditPage } from "./audit";
import { ClaimsPage } from "./claims";
import { OperationPage } from "./operation";
import { OverviewPage } from "./overview";
import { PeoplePage } from "./people";
import { PersonPage } from "./person";
import { Forbidden, Read, useReading } from "./reading";

const PAGES: { path: string; name: string; show: () => ReactNode }[] = [
  { path: "", name: "Overview", show: OverviewPage },
  { path: "people", name: "People", show: PeoplePage },
  { path: "audit", name: "Audit log", show: AuditPage },
  { path: "claims", name: "Old tokens", show: ClaimsPage },
  { path: "operation", name: "Keys and limits", show: OperationPage },
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

/** Asks the server once who this is; every request of the pages is judged there again. */
export default function AdminPage({ path }: { path: string }) {
  const { api } = useWorkspace();
  const access = useReading("access", (signal) => api.json<{ administrator: boolean }>("GET", "/api/access", undefined, signal));
  useTitle("Administration");
  if (access.value?.administrator) return <Console path={path} />;
  return (
    <div className="settings-scroll">
      <div className="settings admin">
        <Read reading={access} what="the console">
          {() => <Forbidden />}
        </Read>
      </div>
    </div>
  );
}

function Console({ path }: { path: string }) {
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
