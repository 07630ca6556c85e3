// How instants, counts and origins are shown and read.

const relative = new Intl.RelativeTimeFormat(undefined, { numeric: 'auto' });
const exact = new Intl.DateTimeFormat(undefined, { dateStyle: 'medium', timeStyle: 'long' });
const STEPS: [Intl.RelativeTimeFormatUnit, number][] = [
  ['year', 31_536_000],
  ['month', 2_592_000],
  ['day', 86_400],
  ['hour', 3_600],
  ['minute', 60],
];

/** `3 hours ago`, `in 2 days`. */
export function ago(at: string, now = Date.now()): string {
  const seconds = (Date.parse(at) - now) / 1000;
  for (const [unit, size] of STEPS) {
    if (Math.abs(seconds) >= size) return relative.format(Math.trunc(seconds / size), unit);
  }
  return Math.abs(seconds) < 5 ? 'just now' : relative.format(Math.trunc(seconds), 'second');
}

/** The instant in full, in the reader's zone. */
export function full(at: string): string {
  return exact.format(new Date(at));
}

/** Whether an expiry is less than two weeks ahead. */
export function isNear(at: string | null | undefined, now = Date.now()): boolean {
  if (!at) return false;
  const left = Date.parse(at) - now;
  return left > 0 && left < 14 * 86_400_000;
}

/** The UTC days up to today, oldest first: `2026-03-31`. */
export function lastDays(count: number, now = Date.now()): string[] {
  return Array.from({ length: count }, (_, index) => new Date(now - (count - 1 - index) * 86_400_000).toISOString().slice(0, 10));
}

/** Why an origin would be refused, or nothing. The server decides; this says it while one types. */
export function originTrouble(text: string, env: 'live' | 'test'): string | undefined {
  if (text === '') return undefined;
  if (text.includes('*')) return 'Wildcards are not possible: list each origin.';
  if (text === 'null') return 'A page without an origin can’t be listed.';
  let url: URL;
  try {
    url = new URL(text);
  } catch {
    return 'Expected something like https://www.example.com';
  }
  const local = url.hostname === 'localhost' || url.hostname === '127.0.0.1';
  if (url.protocol === 'http:' && !(local && env === 'test')) {
    return local ? 'http on this machine works with test keys only.' : 'Only https, so that nobody on the way reads along.';
  }
  if (url.protocol !== 'https:' && url.protocol !== 'http:') return 'Only https origins can be listed.';
  if (url.username || url.password || url.pathname !== '/' || url.search || url.hash || text.endsWith('/')) {
    return `Only scheme, host and port: ${url.origin}`;
  }
  if (url.origin !== text) return `Written as browsers send it: ${url.origin}`;
  return undefined;
}

/** A path of our own to go back to after signing in; anything else is ours to choose. */
export function ownPath(next: unknown): string {
  if (typeof next !== 'string' || !/^\/[A-Za-z0-9]/.test(next)) return '/developer';
  return new URL(next, 'http://here.invalid').host === 'here.invalid' ? next : '/developer';
}

/** US dollars, with as many cents as there are. */
export function usd(amount: number): string {
  return new Intl.NumberFormat('en-US', { style: 'currency', currency: 'USD', maximumFractionDigits: 4 }).format(amount);
}

/** A share, or a dash where nothing can be shared out. */
export function percent(share: number | undefined): string {
  return share === undefined ? '–' : `${Math.round(share * 100)} %`;
}

/** Seconds as people say them. */
export function duration(seconds: number): string {
  if (seconds < 60) return `${seconds} s`;
  const minutes = Math.floor(seconds / 60);
  return minutes < 60 ? `${minutes} min ${seconds % 60} s` : `${Math.floor(minutes / 60)} h ${minutes % 60} min`;
}
