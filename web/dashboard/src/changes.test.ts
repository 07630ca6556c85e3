import { expect, it } from 'vitest';
import { changes, ifMatch } from './changes';

it('names what differs, and nothing else', () => {
  const before = { name: 'first', scopes: ['a', 'b'], rateLimitRpm: null as number | null };
  expect(changes(before, { ...before, name: 'second' })).toEqual({ name: 'second' });
  expect(changes(before, { ...before, scopes: ['a', 'b'], rateLimitRpm: 0 })).toEqual({ rateLimitRpm: 0 });
  expect(changes({ ...before, rateLimitRpm: 5 }, before)).toEqual({ rateLimitRpm: null });
  expect(changes(before, { ...before })).toEqual({});
});

it('makes a change depend on what was seen', () => {
  expect(ifMatch({ etag: '0123456789abcdef' })).toEqual({ 'If-Match': '"0123456789abcdef"' });
  expect(ifMatch({})).toEqual({});
});
