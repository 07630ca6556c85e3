import { expect, it } from 'vitest';
// @ts-expect-error A script without types, which the build runs before there are any.
import { merge } from '../contract.mjs';

const put = merge as (documents: unknown[]) => Record<string, unknown>;

it('puts documents beside one another as the server does', () => {
  const plane = { openapi: '3.1.0', info: { title: 'A' }, tags: [1], paths: { '/a': {} }, components: { schemas: { A: {} } }, 'x-scopes': { 'a:read': {} } };
  const product = { openapi: '3.1.0', info: { title: 'B' }, tags: [2], paths: { '/b': {} }, components: { schemas: { B: {} }, responses: { R: {} } }, 'x-scopes': {} };
  expect(put([plane, product])).toEqual({
    openapi: '3.1.0',
    info: { title: 'B' },
    tags: [1, 2],
    paths: { '/a': {}, '/b': {} },
    components: { schemas: { A: {}, B: {} }, responses: { R: {} } },
    'x-scopes': { 'a:read': {} },
  });
});

it('refuses what stands in two documents', () => {
  expect(() => put([{ paths: { '/a': {} } }, { paths: { '/a': {} } }])).toThrow('#/paths/~1a: stands in two documents');
  expect(() => put([{ components: { schemas: { A: {} } } }, { components: { schemas: { A: {} } } }])).toThrow('#/components/schemas/A');
  expect(() => put([{ servers: [{ url: '/a' }] }, { servers: [{ url: '/b' }] }])).toThrow('#/servers: two documents that belong together say different things');
});
