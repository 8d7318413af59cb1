/** What the routes of administration answer, and how its figures are put together. Pure. */

export type Window = "hour" | "day";

interface Bucket {
  at: string;
  done: number;
  stopped: number;
  failed: number;
  interrupted: number;
  open: number;
  people: number;
  prompt_tokens: number;
  completion_tokens: number;
  cost: string;
}

export interface ServerFigures {
  host: string;
  process: number;
  began_at: string;
  pool: { size: number; idle: number; most: number; waiting: number };
  open_streams: number;
  requests: Record<string, number>;
  first_piece: { bounds: number[]; counts: number[] };
}

export interface Overview {
  window: Window;
  bucket_seconds: number;
  buckets: Bucket[];
  people: number;
  errors: { code: string; answers: number }[];
  running: number;
  queued: number;
  jobs: { queue: string; state: string; jobs: number }[];
  oldest_job_seconds: number;
  audit_chain: { entries: number; sealed_at: string | null };
  this_server: ServerFigures;
}

export interface Person {
  user_id: string;
  email: string | null;
  email_confirmed_at: string | null;
  name: string | null;
  roles: string[];
  providers: string[];
  is_anonymous: boolean;
  has_second_factor: boolean;
  banned_until: string | null;
  deleted_at: string | null;
  created_at: string | null;
  last_sign_in_at: string | null;
}

export interface PersonSession {
  id: string;
  issuer: string;
  device: string | null;
  address: string | null;
  created_at: string;
  last_seen_at: string;
  is_active: boolean;
  ended_at: string | null;
  reason: string | null;
}

export interface AuditEntry {
  number: number;
  at: string;
  action: string;
  outcome: string;
  reason: string | null;
  user_id: string | null;
  actor: string | null;
  address: string | null;
  device: string | null;
  details: Record<string, unknown>;
}

export interface VersionDrain {
  version: number;
  state: "old" | "current" | "newer";
  tokens: number;
  reads: number;
  issued: number;
  ends_at: string | null;
  hours: { hour: string; tokens: number; reads: number }[];
  claims: { claim: string; tokens: number; reads: number }[];
}

export interface Drain {
  newest_version: number;
  fallback_ends_at: string | null;
  versions: VersionDrain[];
}

export type Ending = "done" | "stopped" | "failed" | "interrupted" | "open";

export const ENDINGS: { id: Ending; name: string }[] = [
  { id: "done", name: "Done" },
  { id: "stopped", name: "Stopped" },
  { id: "failed", name: "Failed" },
  { id: "interrupted", name: "Interrupted" },
  { id: "open", name: "Still open" },
];

export function sum(numbers: number[]): number {
  return numbers.reduce((total, one) => total + one, 0);
}

/** The top of a scale that *largest* fits under: 1, 2 or 5 with zeros. */
export function scaleOf(largest: number): number {
  if (!(largest > 0)) return 1;
  const power = 10 ** Math.floor(Math.log10(largest));
  const step = [1, 2, 5, 10].find((one) => one * power >= largest) ?? 10;
  return step * power;
}

/** Within how many seconds a *share* of answers began; null without any, Infinity above all bounds. */
export function within(counts: number[], bounds: number[], share: number): number | null {
  const all = sum(counts);
  if (all === 0) return null;
  let below = 0;
  for (const [place, count] of counts.entries()) {
    below += count;
    if (below >= share * all) return bounds[place] ?? Infinity;
  }
  return Infinity;
}

/** How long to wait after so many failures in a row: twice as long each time, a minute at most. */
export function pauseAfter(failures: number, everyMs: number): number {
  return Math.min(60_000, everyMs * 2 ** failures);
}

/** Whether *person* is kept out now. */
export function isSuspended(person: Person, now: number): boolean {
  return person.banned_until !== null && Date.parse(person.banned_until) > now;
}

/** Suspensions without an end are kept as one that nobody will see. */
export function isForGood(until: string): boolean {
  return new Date(until).getUTCFullYear() > new Date().getUTCFullYear() + 50;
}

/** What a process knew of itself at a moment. */
export interface Sample {
  at: number;
  counts: number[];
  busy: number;
  waiting: number;
}

const SAMPLES = 76;

/** *samples* with one more; five minutes of them, when one is taken every four seconds. */
export function withSample(samples: Sample[], figures: ServerFigures, at: number): Sample[] {
  const { pool, first_piece } = figures;
  return [...samples.slice(1 - SAMPLES), { at, counts: first_piece.counts, busy: pool.size - pool.idle, waiting: pool.waiting }];
}

/** How many answers began between each sample and the one before it, by how long that took. */
export function begunBetween(samples: Sample[], bounds: number[]): { quick: number; slow: number; slower: number }[] {
  return samples.map(({ counts }, number) => {
    const before = samples[number - 1]?.counts ?? counts;
    const begun = { quick: 0, slow: 0, slower: 0 };
    for (const [place, count] of counts.entries()) {
      const bound = bounds[place] ?? Infinity;
      begun[bound <= 1 ? "quick" : bound <= 5 ? "slow" : "slower"] += Math.max(0, count - (before[place] ?? 0));
    }
    return begun;
  });
}
