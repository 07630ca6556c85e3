import { describe, expect, it } from 'vitest';
import { ago, isNear, lastDays, originTrouble, ownPath } from './format';

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
