// The agents that openapi-fetch lists with the types of openapi-typescript: BASE KEY NAME…
import createClient from 'openapi-fetch';
import type { components, paths } from './contract';

declare const process: { argv: string[] };

const [baseUrl = '', key = '', ...names] = process.argv.slice(2);

function equal(got: unknown, wanted: unknown) {
  if (JSON.stringify(got) !== JSON.stringify(wanted)) throw new Error(`${JSON.stringify(got)} is not ${JSON.stringify(wanted)}`);
}

async function main() {
  const as = (token: string) => createClient<paths>({ baseUrl, headers: { authorization: `Bearer ${token}` } });
  const { data } = await as(key).GET('/agents', { params: { query: { limit: 100 } } });
  const agents: components['schemas']['Agent'][] = data?.data ?? [];
  equal(agents.map((it) => it.name).sort(), [...names].sort());
  const { error } = await as('flowyte_sk_none').GET('/agents');
  equal([error?.status, error?.code], [401, 'invalid_credential']);
}

void main();
