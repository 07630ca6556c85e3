import { describe, expect, it } from 'vitest';
import { ago, asShown, count, date, isNear, lastDays, originTrouble, ownPath } from './format';

describe('origins', () => {
  it('takes what browsers send', () => {
    expect(originTrouble('https://www.example.com', 'live')).toBeUndefined();
    expect(originTrouble('https://example.com:8443', 'live')).toBeUndefined();
    expect(originTrouble('http://localhost:3000', 'test')).toBeUndefined();
  });
  it('says why another is refused', () => {
    for (const bad of ['*', 'https://*.example.com', 'null', 'example.com', 'http://example.com', 'https://example.com/', 'https://example.com/x', 'https://EXAMPLE.com', 'https://example.com:443', 'ftp://example.com']) {
      expect(originTrouble(bad, 'live'), bad).toBeTruthy();
    }
    expect(originTrouble('http://localhost:3000', 'live')).toContain('test keys');
  });
});

describe('where to go after signing in', () => {
  it('stays on this site', () => {
    expect(ownPath('/members')).toBe('/members');
    for (const bad of ['//evil.example', '/\\evil.example', 'https:evil', 'javascript:alert(1)', '/%09/evil', undefined, 7]) {
      expect(ownPath(bad), String(bad)).toBe('/developer');
    }
  });
});

describe('instants', () => {
  const now = Date.parse('2026-11-24T12:00:00Z');
  it('are told from now', () => {
    expect(ago('2026-11-24T09:00:00Z', now)).toBe('3 hours ago');
    expect(ago('2026-11-26T12:00:00Z', now)).toBe('in 2 days');
    expect(ago('2026-11-24T11:59:58Z', now)).toBe('just now');
    // A key of 90 days, a moment after it was minted.
    expect(ago('2027-02-22T11:59:57Z', now)).toBe('in 90 days');
    expect(ago('2026-12-24T11:59:57Z', now)).toBe('in 30 days');
    expect(ago('2027-11-24T11:59:57Z', now)).toBe('in 365 days');
    expect(ago('2026-11-24T12:59:58Z', now)).toBe('in 1 hour');
    expect(ago('2029-11-24T12:00:00Z', now)).toBe('in 3 years');
  });
  it('show their date', () => {
    expect(date('2027-02-22T11:59:57Z', now)).toBe('22 Feb 2027');
    expect(date('2026-11-24T09:00:00Z', now)).toMatch(/^24 Nov 2026, \d\d:\d\d$/);
  });
  it('near their end are near', () => {
    expect(isNear('2026-12-01T00:00:00Z', now)).toBe(true);
    expect(isNear('2027-12-01T00:00:00Z', now)).toBe(false);
    expect(isNear('2026-11-01T00:00:00Z', now)).toBe(false);
    expect(isNear(null, now)).toBe(false);
  });
});

describe('the last days', () => {
  it('are days of UTC, oldest first, today among them', () => {
    expect(lastDays(3, Date.parse('2028-03-01T00:00:01Z'))).toEqual(['2028-02-28', '2028-02-29', '2028-03-01']);
  });
});

describe('counts', () => {
  it('agree with their noun', () => {
    expect([count(1, 'call'), count(0, 'call'), count(2, 'call'), count(1200, 'call'), count(1, 'address', 'addresses'), count(2, 'address', 'addresses')]).toEqual([
      '1 call', '0 calls', '2 calls', '1,200 calls', '1 address', '2 addresses',
    ]);
  });
});

describe('a name that is typed', () => {
  it('is the one that is shown', () => {
    expect(asShown('two  spaces')).toBe(asShown('two spaces'));
    expect(asShown(' Zoe\u0308 ')).toBe('Zo\u00eb');
    expect(asShown('\u0645\u06cc\u200c\u062e\u0648\u0627\u0647\u0645')).toBe(asShown('\u0645\u06cc\u062e\u0648\u0627\u0647\u0645'));
    expect(asShown('first')).not.toBe(asShown('First'));
  });
});
