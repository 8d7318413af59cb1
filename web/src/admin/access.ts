/** Whether to offer the admin console. The server decides again at each request of it. */
import { useEffect, useState } from "react";
import type { Api } from "../api";

export function useAdministrator(api: Api): boolean {
  const [administrator, setAdministrator] = useState(false);
  useEffect(() => {
    const left = new AbortController();
    api.json<{ administrator: boolean }>("GET", "/api/access", undefined, left.signal).then(
      (answer) => setAdministrator(answer.administrator),
      // Nobody asked for it: the console can be reached by its address all the same.
      (error: unknown) => left.signal.aborted || console.info("Who administers was not read:", error),
    );
    return () => left.abort();
  }, [api]);
  return administrator;
}
