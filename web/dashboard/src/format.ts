// How instants, counts and origins are shown and read.

const DAY = 86_400_000;
const relative = new Intl.RelativeTimeFormat('en-GB', { numeric: 'auto' });
const day = new Intl.DateTimeFormat('en-GB', { dateStyle: 'medium' });
const minute = new Intl.DateTimeFormat('en-GB', { dateStyle: 'medium', timeStyle: 'short' });
const exact = new Intl.DateTimeFormat('en-GB', { dateStyle: 'long', timeStyle: 'long' });
const whole = new Intl.NumberFormat('en-US');
// Each unit up to where the next one says as much. Days go on to two years, since a month is no fixed number of them.
const STEPS: [Intl.RelativeTimeFormatUnit, size: number, below: number][] = [
  ['second', 1_000, 60],
  ['minute', 60_000, 60],
  ['hour', 3_600_000, 24],
  ['day', DAY, 730],
  ['year', 365.25 * DAY, Infinity],
];

/** How far an instant is: `3 hours ago`, `in 90 days`. */
export function ago(at: string, now = Date.now()): string {
  const distance = Date.parse(at) - now;
  if (Math.abs(distance) < 5_000) return 'just now';
  for (const [unit, size, below] of STEPS) {
    const count = Math.round(distance / size);
    if (Math.abs(count) < below) return relative.format(count, unit);
  }
  return '';
}

/** The date in the reader's zone, with the time of day where that still matters. */
export function date(at: string, now = Date.now()): string {
  const instant = new Date(at);
  return Math.abs(instant.getTime() - now) < 2 * DAY ? minute.format(instant) : day.format(instant);
}

/** Midnight of a day in the reader's zone, and `later` milliseconds, for the API; empty where the text is no day. */
export function midnight(day: string, later = 0): string {
  const instant = new Date(`${day}T00:00`);
  return /^\d{4}-\d\d-\d\d$/.test(day) && !Number.isNaN(instant.getTime()) ? new Date(instant.getTime() + later).toISOString() : '';
}

/** The instant in full, in the reader's zone. */
export function full(at: string): string {
  return exact.format(new Date(at));
}

/** `1 call`, `2 calls`, `1,200 calls`; `many` where an s is not enough. */
export function count(number: number, one: string, many = `${one}s`): string {
  return `${whole.format(number)} ${number === 1 ? one : many}`;
}

/** A text as a page shows it, so that it can be compared with what somebody typed: spaces run together, joiners draw nothing. */
export function asShown(text: string): string {
  return text.normalize('NFC').replace(/[\u200C\u200D]/g, '').replace(/\s+/g, ' ').trim();
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
    return local ? 'http on this machine works with test keys only.' : 'Only https, so that nobody between the browser and the server can read it.';
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
