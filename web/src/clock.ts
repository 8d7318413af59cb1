/**
 * When a token ends, by the clock of this machine.
 *
 * The sign-in service says it by its own clock as well, and its client compares that with ours:
 * where ours is an hour ahead every token would have ended when it comes.
 */

/** *told*, with its end reckoned from how long it is good; anything that is no session as it is. */
export function byThisClock(told: unknown, now: number): unknown {
  const { expires_in: seconds, expires_at: at } = (told ?? {}) as Record<string, unknown>;
  if (typeof seconds !== "number" || typeof at !== "number") return told;
  return { ...(told as object), expires_at: Math.floor(now / 1000) + seconds };
}

/** *response* with the end of what it brings by this clock. */
export async function inOurTime(response: Response): Promise<Response> {
  if (!response.ok || !response.headers.get("content-type")?.startsWith("application/json")) return response;
  const told: unknown = await response.clone().json().catch(() => null);
  const ours = byThisClock(told, Date.now());
  return ours === told ? response : new Response(JSON.stringify(ours), { status: response.status, headers: response.headers });
}
