// The widget on somebody else's page, which is served from another port than the API.
import assert from 'node:assert/strict';
import { createServer, type Server } from 'node:http';
import type { AddressInfo } from 'node:net';
import { after, before, describe, it } from 'node:test';
import { AxeBuilder } from '@axe-core/playwright';
import type { Browser, Page } from 'playwright-core';
import { PASSWORD, Product, launch, say, until, visit } from './support.ts';

let browser: Browser;
let product: Product;
let cookie = '';
let agent = '';
let key = { id: '', keyPublic: '' };
const sites: Server[] = [];

/** Serves one page to whoever asks; its origin. */
function serve(page: () => string): Promise<string> {
  return new Promise((done) => {
    const server = createServer((_, answer) => answer.writeHead(200, { 'content-type': 'text/html' }).end(page()));
    sites.push(server);
    server.listen(0, '127.0.0.1', () => done(`http://localhost:${(server.address() as AddressInfo).port}`));
  });
}

async function call<T>(method: string, path: string, body?: unknown): Promise<T> {
  const answer = await fetch(`${product.url}/api/v1${path}`, {
    method,
    headers: { cookie, origin: product.url, 'content-type': 'application/json' },
    ...(body === undefined ? {} : { body: JSON.stringify(body) }),
  });
  if (!answer.ok) throw new Error(`${method} ${path}: ${answer.status} ${await answer.text()}`);
  cookie = answer.headers.get('set-cookie')?.split(';')[0] ?? cookie;
  return ((await answer.json()) as { data: T }).data;
}

const embedded = () =>
  `<!doctype html><html lang="en"><title>Shop</title><h1>Shop</h1><script src="${product.url}/widget/loader.js" data-flowyte-key="${key.keyPublic}" async></script>`;

const bubble = (page: Page) => page.locator('flowyte-widget');

let shop = '';
let elsewhere = '';

before(async () => {
  browser = await launch();
  product = await Product.start();
  shop = await serve(embedded);
  elsewhere = await serve(embedded);
  const token = new URL(product.setUpLink).hash.slice('#token='.length);
  await call('POST', '/auth/setup', { token, organizationName: 'Alpha', name: 'Ada', email: 'ada@alpha.example', password: PASSWORD });
  agent = (await call<{ id: string }>('POST', '/agents', { name: 'Front desk', greeting: 'Good day!' })).id;
  await call('POST', `/agents/${agent}/publish`, {});
  await call('PUT', `/agents/${agent}/widget`, { theme: { primaryColor: '#7a1fa2' }, copy: { title: 'Ask the shop' }, behavior: {} });
  key = await call('POST', `/agents/${agent}/publishable-keys`, { name: 'shop', env: 'test', allowedOrigins: [shop] });
});

after(async () => {
  await browser.close();
  product.stop();
  for (const site of sites) site.close();
});

describe('the widget', { concurrency: false }, () => {
  it('greets, answers as it comes, and goes on after a reload and a rotation', async () => {
    const { page, wrong, context } = await visit(browser);
    await page.goto(shop);
    await until(page, 'Open the chat');
    assert.deepEqual(await page.evaluate(() => Object.keys(window).filter((it) => /flowyte/i.test(it))), ['flowyte']);
    await bubble(page).evaluate(() => (window as unknown as { flowyte: { open(): void } }).flowyte.open());
    await until(page, 'Good day!');
    await until(page, 'Ask the shop');
    await say(page, 'When do you open?');
    const first = await until(page, 'ask the people behind this site');
    assert.ok(first.includes('When do you open?'));
    const { violations } = await new AxeBuilder({ page }).analyze();
    assert.deepEqual(violations.map((it) => it.id).filter((id) => !['landmark-one-main', 'region'].includes(id)), []);
    await page.keyboard.press('Escape');
    await until(page, 'Open the chat');
    // The key turns; the visitor's conversation is not the key's text, so it goes on.
    key = { ...key, ...(await call<{ keyPublic: string }>('POST', `/agents/${agent}/publishable-keys/${key.id}/rotate`, { graceSeconds: 3600 })) };
    await page.evaluate(() => (window as unknown as { flowyte: { open(): void } }).flowyte.open());
    await page.waitForTimeout(200);
    const answered = page.waitForResponse((it) => it.url().endsWith('/chat/widget/messages') && it.request().method() === 'POST');
    await say(page, 'And on Sundays?');
    assert.equal((await answered).status(), 200);
    await until(page, 'And on Sundays?');
    assert.deepEqual(wrong, []);
    await context.close();
  });

  it('goes on in a new session when its own is over', async () => {
    const { page, context } = await visit(browser);
    let opened = 0;
    page.on('request', (request) => {
      if (request.url().endsWith('/chat/widget/sessions') && request.method() === 'POST') opened += 1;
    });
    await page.goto(shop);
    await until(page, 'Open the chat');
    // The server's own words for a session that was idle for too long; waiting for it would take half an hour.
    await page.route('**/chat/widget/messages', (route) =>
      route.fulfill({ status: 401, contentType: 'application/problem+json', headers: { 'access-control-allow-origin': shop }, body: JSON.stringify({ code: 'credential_expired', status: 401 }) }),
      { times: 1 },
    );
    await page.evaluate(() => (window as unknown as { flowyte: { open(): void } }).flowyte.open());
    await until(page, 'Good day!');
    await say(page, 'Are you still there?');
    await until(page, 'ask the people behind this site');
    assert.equal(opened, 2);
    await context.close();
  });

  it('begins another conversation when the agent has ended this one', async () => {
    await call('POST', `/agents/${agent}/skills`, { name: 'Goodbye', description: 'Ends the conversation.', skillType: 'builtin', executionConfig: { action: 'end_call' } });
    const { page, context } = await visit(browser);
    await page.goto(shop);
    await until(page, 'Open the chat');
    await page.evaluate(() => (window as unknown as { flowyte: { open(): void } }).flowyte.open());
    await until(page, 'Good day!');
    await say(page, '/goodbye');
    await until(page, 'Goodbye.');
    await say(page, 'One more thing?');
    await until(page, 'ask the people behind this site');
    await context.close();
  });

  it('keeps the conversation of a tab through a reload', async () => {
    const { page, context } = await visit(browser);
    await page.goto(shop);
    const open = () => page.evaluate(() => (window as unknown as { flowyte: { open(): void } }).flowyte.open());
    await until(page, 'Open the chat');
    await open();
    await until(page, 'Good day!');
    await say(page, 'Remember me');
    await until(page, 'ask the people behind this site');
    await page.reload();
    await until(page, 'Open the chat');
    await open();
    await until(page, 'Remember me');
    await context.close();
  });

  it('shows its owner what was said and what it did not know', async () => {
    const { page, wrong, context } = await visit(browser);
    await page.goto(`${product.url}/signin`);
    await page.getByLabel('E-mail').fill('ada@alpha.example');
    await page.getByLabel('Password').fill(PASSWORD);
    await page.getByRole('button', { name: 'Sign in' }).click();
    await page.getByRole('navigation').getByRole('link', { name: 'Conversations' }).click();
    await page.getByLabel('Search').fill('remember');
    await page.keyboard.press('Enter');
    await page.getByRole('region', { name: 'Table of conversations' }).getByRole('link').first().click();
    await page.getByRole('region', { name: 'Transcript' }).getByText('Remember me').waitFor();
    await page.getByRole('region', { name: 'Receipt' }).getByText(/agent message/).first().waitFor();
    const looked = await new AxeBuilder({ page }).analyze();
    assert.deepEqual(looked.violations.map((it) => it.id), [], 'a conversation');
    await page.getByRole('link', { name: '← Conversations' }).click();
    await page.getByLabel('Search').fill('nobody-said-this');
    await page.keyboard.press('Enter');
    await page.getByText('No conversation fits').waitFor();
    // The page's key is a test key, whose conversations do not count; a backend's conversation does.
    const chat = await call<{ id: string }>('POST', '/chat/sessions', { agentId: agent });
    await call('POST', `/chat/sessions/${chat.id}/messages`, { content: 'Do you sell fish?' });
    await page.getByRole('navigation').getByRole('link', { name: 'Analytics' }).click();
    await page.getByRole('region', { name: 'Figures by agent' }).getByRole('row').nth(1).waitFor();
    const status = page.getByLabel('Status of Do you sell fish?');
    await status.selectOption('dismissed');
    await page.reload();
    await status.waitFor();
    assert.equal(await status.inputValue(), 'dismissed');
    const counted = await new AxeBuilder({ page }).analyze();
    assert.deepEqual(counted.violations.map((it) => it.id), [], 'analytics');
    assert.deepEqual(wrong, []);
    await context.close();
  });

  it('tells the owner of a page that is not listed how to allow it', async () => {
    const { page, wrong, context } = await visit(browser);
    await page.goto(elsewhere);
    await until(page, 'Open the chat');
    await page.evaluate(() => (window as unknown as { flowyte: { open(): void } }).flowyte.open());
    await until(page, 'not available on this page');
    assert.ok(wrong.some((it) => it.includes(elsewhere) && it.includes('add it exactly so')), JSON.stringify(wrong));
    await context.close();
  });

  it('works in a frame by the frame’s own origin, and not in a sandbox without one', async () => {
    const host = await serve(() => `<!doctype html><html lang="en"><title>Host</title><iframe title="shop" src="${shop}"></iframe><iframe title="boxed" sandbox="allow-scripts" src="${shop}"></iframe>`);
    const { page, wrong, context } = await visit(browser);
    const answers: number[] = [];
    page.on('response', (response) => {
      if (response.url().includes('/widget/bootstrap') && response.request().method() === 'GET') answers.push(response.status());
    });
    await page.goto(host);
    for (let tries = 0; tries < 50 && !(answers.includes(200) && wrong.some((it) => it.startsWith('Flowyte'))); tries += 1) await page.waitForTimeout(100);
    assert.ok(answers.includes(200), 'the frame of a listed page');
    assert.ok(wrong.some((it) => it.includes('no origin (null)')), `the sandboxed frame: ${JSON.stringify(wrong)}`);
    await context.close();
  });
});
