// Serves the demo shop: node serve.mjs KEY [API] [PORT]
import { readFileSync } from 'node:fs';
import { createServer } from 'node:http';

const [key, api = 'http://localhost:8080', port = '8090'] = process.argv.slice(2);
if (!key?.startsWith('flowyte_pk_')) {
  console.error(`A publishable key is needed: make demo KEY=flowyte_pk_test_…\nMint one on an agent's page: test environment, origin http://localhost:${port}`);
  process.exit(1);
}
const page = readFileSync(new URL('index.html', import.meta.url), 'utf8').replaceAll('{{api}}', api).replaceAll('{{key}}', key);
createServer((_, answer) => answer.writeHead(200, { 'content-type': 'text/html; charset=utf-8' }).end(page)).listen(Number(port), '127.0.0.1', () =>
  console.log(`The shop is open at http://localhost:${port}`),
);
