// Pictures of every page, light, dark and on a phone: node e2e/screenshots.ts FOLDER
import { mkdirSync } from 'node:fs';
import { join } from 'node:path';
import { Product, launch, mint, mintMany, setUp, until, visit } from './support.ts';

const folder = process.argv[2] ?? 'screenshots';
mkdirSync(folder, { recursive: true });
const browser = await launch();
const product = await Product.start();
const { page } = await visit(browser);

async function shoot(name: string): Promise<void> {
  for (const [look, width, theme] of [['light', 1280, 'light'], ['dark', 1280, 'dark'], ['phone', 390, 'light']] as const) {
    await page.setViewportSize({ width, height: 860 });
    await page.evaluate((it) => (document.documentElement.dataset.theme = it), theme);
    await page.screenshot({ path: join(folder, `${name}-${look}.png`), fullPage: true });
  }
  await page.setViewportSize({ width: 1280, height: 860 });
  await page.evaluate(() => (document.documentElement.dataset.theme = 'light'));
}

await page.goto(product.setUpLink);
await shoot('setup');
await setUp(page, product);
await shoot('developer-empty');
const secret = await mint(page, 'Booking backend of the dental practice at the very long corner');
await product.call('/agents', secret);
await page.getByText(/Received/).waitFor();
await shoot('secret');
await page.getByRole('button', { name: 'I have copied it' }).click();
await mint(page, 'nightly');
await page.getByRole('button', { name: 'I have copied it' }).click();
await shoot('developer');
await page.getByRole('button', { name: 'Mint a key' }).click();
await shoot('mint');
await page.keyboard.press('Escape');
await page.getByRole('dialog').waitFor({ state: 'detached' });
await page.getByRole('link', { name: /Booking/ }).click();
await page.getByText('listAgents').first().waitFor();
await shoot('key');
await page.getByRole('button', { name: 'Rotate' }).click();
await page.getByRole('dialog').getByRole('button', { name: 'Rotate' }).click();
await page.getByRole('button', { name: 'I have copied it' }).click();
await product.call('/agents', secret);
await page.getByText(/Still used/).waitFor();
await shoot('key-in-grace');
await page.goto(`${product.url}/agents`);
await page.getByRole('button', { name: 'New agent' }).click();
await page.getByLabel('Name').fill('Front desk');
await page.getByRole('button', { name: 'Make it' }).click();
await page.getByRole('heading', { name: 'Draft, version 1' }).waitFor();
await page.getByLabel('Greeting').fill('Good day! How can we help you?');
await page.getByRole('button', { name: 'Save the draft' }).click();
await page.getByRole('heading', { name: 'Draft, version 2' }).waitFor();
await until(page, 'How can we help you?', 'StaticText');
await page.getByRole('button', { name: 'Add a source' }).click();
await page.getByRole('dialog').getByLabel('Label').fill('Opening hours');
await page.getByRole('dialog').getByLabel('Text').fill('We are open from nine to five, Monday to Friday. On Sundays the shop is closed.');
await shoot('add-source');
await page.getByRole('button', { name: 'Add', exact: true }).click();
await page.getByRole('cell', { name: 'indexed' }).waitFor();
await page.getByLabel('What would it find?').fill('When do you open?');
await page.getByRole('button', { name: 'Look' }).click();
await page.getByRole('region', { name: 'Passages' }).waitFor();
await shoot('agent');
await page.evaluate(async () => {
  const ask = async (path: string, body: unknown) => (await fetch(`/api/v1${path}`, { method: 'POST', headers: { 'content-type': 'application/json' }, body: JSON.stringify(body) })).json() as Promise<unknown>;
  const agentId = location.pathname.split('/').pop() ?? '';
  await ask(`/agents/${agentId}/publish`, {});
  for (const questions of [['When are you open?', 'Do you sell fish?'], ['Are you open on Sundays? That is terrible.'], ['Do you sell fish?']]) {
    const { data } = (await ask('/chat/sessions', { agentId })) as { data: { id: string } };
    for (const content of questions) await ask(`/chat/sessions/${data.id}/messages`, { content });
  }
});
await page.goto(`${product.url}/wallet`);
await page.getByRole('button', { name: 'Top up' }).click();
await page.getByRole('button', { name: 'Pay' }).click();
await page.getByText(/are in the wallet/).waitFor();
await page.getByRole('dialog').getByRole('button', { name: 'Close' }).last().click();
await page.goto(`${product.url}/numbers`);
await page.getByRole('button', { name: 'Find a number' }).click();
await page.getByRole('button', { name: 'Search' }).click();
await page.getByRole('button', { name: /^Buy/ }).first().waitFor();
await shoot('find-number');
await page.getByRole('button', { name: /^Buy/ }).first().click();
await shoot('buy-number');
await page.getByRole('button', { name: /^Buy for/ }).click();
await page.getByRole('dialog').getByRole('button', { name: 'Close' }).last().click();
for (const name of ['agents', 'conversations', 'analytics', 'numbers', 'wallet', 'members', 'audit', 'sessions', 'reference']) {
  await page.goto(`${product.url}/${name}`);
  await page.getByRole('heading', { level: 1 }).waitFor();
  await page.waitForFunction(() => !document.querySelector('.bone'));
  await shoot(name);
}
await page.goto(`${product.url}/conversations`);
await page.getByRole('region', { name: 'Table of conversations' }).getByRole('link').last().click();
await page.getByRole('region', { name: 'Receipt' }).locator('summary').first().waitFor();
await shoot('conversation');
await page.goto(`${product.url}/developer`);
await mintMany(page, 1000);
await page.reload();
await page.getByText('worker 1000').waitFor();
await page.setViewportSize({ width: 1280, height: 860 });
await page.screenshot({ path: join(folder, 'developer-thousand.png') });
await browser.close();
product.stop();
