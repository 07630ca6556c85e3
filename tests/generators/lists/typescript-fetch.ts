// The agents that openapi-generator's client for fetch lists: BASE KEY NAME…
import { AgentsApi, Configuration, ResponseError } from './index';

declare const process: { argv: string[] };

const [basePath = '', key = '', ...names] = process.argv.slice(2);

function equal(got: unknown, wanted: unknown) {
  if (JSON.stringify(got) !== JSON.stringify(wanted)) throw new Error(`${JSON.stringify(got)} is not ${JSON.stringify(wanted)}`);
}

async function main() {
  const answer = await new AgentsApi(new Configuration({ basePath, accessToken: key })).listAgents({ limit: 100 });
  equal(answer.data.map((it) => it.name).sort(), [...names].sort());
  const refusal: unknown = await new AgentsApi(new Configuration({ basePath, accessToken: 'flowyte_sk_none' })).listAgents().catch((it: unknown) => it);
  if (!(refusal instanceof ResponseError)) throw new Error(String(refusal));
  equal([refusal.response.status, ((await refusal.response.json()) as { code: string }).code], [401, 'invalid_credential']);
}

void main();
