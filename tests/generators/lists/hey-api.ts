// The agents that the client of hey-api lists: BASE KEY NAME…
import type { Agent } from './hey';
import { listAgents } from './hey';
import { createClient } from './hey/client';

declare const process: { argv: string[] };

const [baseUrl = '', key = '', ...names] = process.argv.slice(2);

function equal(got: unknown, wanted: unknown) {
  if (JSON.stringify(got) !== JSON.stringify(wanted)) throw new Error(`${JSON.stringify(got)} is not ${JSON.stringify(wanted)}`);
}

async function main() {
  const { data } = await listAgents({ client: createClient({ baseUrl, auth: key }), query: { limit: 100 } });
  const agents: Agent[] = data?.data ?? [];
  equal(agents.map((it) => it.name).sort(), [...names].sort());
  const { error } = await listAgents({ client: createClient({ baseUrl, auth: 'flowyte_sk_none' }) });
  equal([error?.status, error?.code], [401, 'invalid_credential']);
}

void main();
