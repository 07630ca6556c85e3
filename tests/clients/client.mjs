// The official OpenAI client for Node: node client.mjs BASE KEY AGENT UNPUBLISHED
import assert from 'node:assert/strict';
import OpenAI from 'openai';

const [baseURL, apiKey, agent, unpublished] = process.argv.slice(2);
const client = new OpenAI({ baseURL, apiKey, maxRetries: 0 });
const messages = [
  { role: 'system', content: 'Be brief.' },
  { role: 'assistant', content: 'Good day!' },
  { role: 'user', content: [{ type: 'text', text: 'When do you open?' }] },
];

const whole = await client.chat.completions.create({ model: agent, messages, user: 'visitor-1' });
assert.equal(whole.choices[0].message.content, 'We open at nine.');
assert.equal(whole.choices[0].finish_reason, 'stop');

assert.deepEqual((await client.models.list()).data.map((it) => it.id), [unpublished, agent]);

let text = '';
let finish;
for await (const chunk of await client.chat.completions.create({ model: agent, messages, stream: true })) {
  text += chunk.choices[0].delta.content ?? '';
  finish = chunk.choices[0].finish_reason ?? finish;
}
assert.equal(text, 'We open at nine.');
assert.equal(finish, 'stop');

for (const [kind, status, code, ask] of [
  [OpenAI.NotFoundError, 404, 'not_found', () => client.chat.completions.create({ model: 'gpt-4', messages })],
  [OpenAI.ConflictError, 409, 'no_published_version', () => client.chat.completions.create({ model: unpublished, messages })],
  [OpenAI.BadRequestError, 400, 'validation_error', () => client.chat.completions.create({ model: agent, messages, n: 2 })],
  [OpenAI.AuthenticationError, 401, 'invalid_credential', () => new OpenAI({ baseURL, apiKey: 'sk-none', maxRetries: 0 }).chat.completions.create({ model: agent, messages })],
]) {
  const refusal = await ask().then(() => assert.fail(`${code} was not raised`), (refusal) => refusal);
  assert.ok(refusal instanceof kind, String(refusal));
  assert.deepEqual([refusal.status, refusal.code], [status, code]);
  assert.ok(refusal.message.length > 20 && !refusal.message.includes('no body'), refusal.message);
}
