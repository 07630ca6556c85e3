import { expect, it } from 'vitest';
import { operations, verdict } from './contract-document';

const [list, add, mint, health] = operations({
  paths: {
    '/sources': {
      parameters: [],
      get: { operationId: 'list', tags: ['knowledge'], security: [{ apiKey: ['knowledge:read'] }, { apiKey: ['knowledge:write'] }] },
      post: { operationId: 'add', 'x-reserved': true, security: [{ apiKey: ['knowledge:write'] }] },
    },
    '/keys': { post: { operationId: 'mint', security: [{ session: ['keys:write'] }] } },
    '/health': { get: { operationId: 'health', security: [] } },
  },
  components: { securitySchemes: { apiKey: { 'x-credential': 'secret_key' }, session: { 'x-credential': 'session' } } },
});

it('reads what each operation needs', () => {
  expect(list).toMatchObject({ method: 'GET', path: '/sources', tag: 'knowledge', reserved: false });
  expect(add?.reserved).toBe(true);
});

it('says what a key may, and what it lacks', () => {
  if (!list || !add || !mint || !health) throw new Error('operations are missing');
  expect(verdict(list, 'secret_key', ['knowledge:write'])).toEqual({ answer: 'allowed' });
  expect(verdict(list, 'secret_key', ['agents:read'])).toEqual({ answer: 'lacks', missing: ['knowledge:read', 'knowledge:write'] });
  expect(verdict(add, 'secret_key', ['knowledge:write'])).toEqual({ answer: 'reserved' });
  expect(verdict(mint, 'secret_key', ['keys:write'])).toEqual({ answer: 'other credential', kinds: ['session'] });
  expect(verdict(health, 'secret_key', [])).toEqual({ answer: 'allowed' });
});
