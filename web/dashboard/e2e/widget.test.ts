// The widget on somebody else's page, which is served from another port than the API.
import assert from 'node:assert/strict';
import { createHmac } from 'node:crypto';
import { createServer, type Server } from 'node:http';
import type { AddressInfo } from 'node:net';
import { after, before, describe, it } from 'node:test';
import { AxeBuilder } from '@axe-core/playwright';
import type { Browser, Page } from 'playwright-core';
import { PASSWORD, Product, eventually, idle, launch, say, until, visit } from './support.ts';

let browser: Browser;
let product: Product;
let cookie = '';
let agent = '';
let key = { id: '', keyPublic: '' };
const sites: Server[] = [];

/** Serves one page to whoever asks; its origin. `policy`: the page's Content-Security-Policy. */
function serve(page: () => string, policy?: string): Promise<string> {
  return new Promise((done) => {
    const server = createServer((_, answer) =>
      answer.writeHead(200, { 'content-type': 'text/html', ...(policy ? { 'content-security-policy': policy } : {}) }).end(page()),
    );
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

const tag = (publicKey: string) => `<script src="${product.url}/widget/loader.js" data-flowyte-key="${publicKey}" async></script>`;
const embedded = (publicKey = key.keyPublic) => `<!doctype html><html lang="en"><title>Shop</title><h1>Shop</h1>${tag(publicKey)}`;

const bubble = (page: Page) => page.locator('flowyte-widget');
const open = (page: Page) => page.evaluate(() => (window as unknown as { flowyte: { open(): void } }).flowyte.open());
const mint = (allowedOrigins: string[], more: object = {}, of = agent) =>
  call<{ id: string; keyPublic: string; identitySecret?: string }>('POST', `/agents/${of}/publishable-keys`, { name: 'one more', env: 'test', allowedOrigins, ...more });

/** How often the page shows this text, once it is there. */
async function times(page: Page, text: string): Promise<number> {
  return (await until(page, text, 'StaticText')).split(text).length - 1;
}

/** Waits for what the widget tells the site's owner in the console. */
async function told(wrong: string[], part: string): Promise<void> {
  const there = () => wrong.some((it) => it.startsWith('Flowyte widget: ') && it.includes(part));
  await eventually(() => wrong, there, `${part} is not told`);
}

/** Visits a page whose widget can't work: visitors see nothing of it, and the console names one cause, this one. */
async function broken(address: string, cause: string): Promise<void> {
  const { page, wrong, context } = await visit(browser);
  await page.goto(address);
  await told(wrong, cause);
  assert.equal(wrong.filter((it) => it.startsWith('Flowyte')).length, 1, JSON.stringify(wrong));
  assert.equal(await bubble(page).isVisible(), false);
  await open(page);
  assert.equal(await bubble(page).isVisible(), false, 'nor when the page opens it');
  await context.close();
}

let shop = '';
let elsewhere = '';

before(async () => {
  browser = await launch();
  product = await Product.start();
  shop = await serve(() => embedded());
  elsewhere = await serve(() => embedded());
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
    await open(page);
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
    await open(page);
    await until(page, 'When do you open?');
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
    await open(page);
    await until(page, 'Good day!');
    await say(page, 'Are you still there?');
    await until(page, 'ask the people behind this site');
    // What the browser asked for may be told a moment later than what the page shows.
    await eventually(() => opened, (times) => times === 2, 'it goes on in the same session');
    await context.close();
  });

  it('begins another conversation when the agent has ended this one', async () => {
    await call('POST', `/agents/${agent}/skills`, { name: 'Goodbye', description: 'Ends the conversation.', skillType: 'builtin', executionConfig: { action: 'end_call' } });
    const { page, context } = await visit(browser);
    await page.goto(shop);
    await until(page, 'Open the chat');
    await open(page);
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
    await until(page, 'Open the chat');
    await open(page);
    await until(page, 'Good day!');
    await say(page, 'Remember me');
    await until(page, 'ask the people behind this site');
    await page.reload();
    await until(page, 'Open the chat');
    await open(page);
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

  it('greets once and names the source of an answer, after a reload too', async () => {
    await call('POST', `/agents/${agent}/knowledge/sources`, { kind: 'text', label: 'Opening hours', text: 'We are open from nine to five, Monday to Friday.' });
    const sources = () => call<{ status: string }[]>('GET', `/agents/${agent}/knowledge/sources`);
    await eventually(sources, ([source]) => source?.status === 'indexed', 'the source is not read');
    const { page, wrong, context } = await visit(browser);
    await page.goto(shop);
    await until(page, 'Open the chat');
    await open(page);
    await until(page, 'Good day!');
    await say(page, 'When are you open?');
    await until(page, 'We are open from nine');
    assert.equal(await times(page, 'Source: '), 1);
    assert.equal(await times(page, 'Opening hours'), 1);
    assert.equal(await times(page, 'Good day!'), 1);
    await page.reload();
    await until(page, 'Open the chat');
    await open(page);
    await until(page, 'We are open from nine');
    assert.equal(await times(page, 'Source: '), 1);
    assert.equal(await times(page, 'Opening hours'), 1);
    assert.equal(await times(page, 'Good day!'), 1);
    assert.deepEqual(wrong, []);
    await context.close();
  });

  it('shows a question once, however often it had to be sent', async () => {
    const { page, context } = await visit(browser);
    await page.goto(shop);
    await until(page, 'Open the chat');
    await open(page);
    await until(page, 'Good day!');
    const events = 'event: message_delta\ndata: {"text":"Half an ans"}\n\nevent: error\ndata: {"code":"dependency_unavailable","detail":"The model gives no answer."}\n\n';
    const failures: Parameters<Page['route']>[1][] = [
      (route) => route.abort(),
      (route) => route.fulfill({ status: 503, body: '' }),
      (route) => route.fulfill({ status: 200, contentType: 'text/event-stream', headers: { 'access-control-allow-origin': shop }, body: events }),
    ];
    await say(page, 'Where is my parcel?');
    await until(page, 'ask the people behind this site');
    for (const failure of failures) {
      await page.route('**/chat/widget/messages', failure, { times: 1 });
      if (failure === failures[0]) await say(page, 'Do you sell lamps?');
      else await page.keyboard.press('Enter');
      // Until then what is said is of the time before.
      await idle(page);
      await until(page, 'That did not get through');
      assert.equal(await times(page, 'Where is my parcel?'), 1);
      assert.ok(!(await until(page, 'Good day!', 'StaticText')).includes('Half an ans'));
    }
    const answered = page.waitForResponse((it) => it.url().endsWith('/chat/widget/messages') && it.status() === 200);
    await page.keyboard.press('Enter');
    await answered;
    for (const again of [false, true]) {
      if (again) await page.reload();
      if (again) await until(page, 'Open the chat');
      if (again) await open(page);
      assert.equal(await times(page, 'Do you sell lamps?'), 1, again ? 'after a reload' : 'at once');
    }
    await context.close();
  });

  it('is not seen where it can’t work, and the console names the cause', async () => {
    const policy = `default-src 'none'; script-src ${product.url}; connect-src 'self'`;
    const [strict, revoked, fresh] = [await serve(() => embedded(), policy), await serve(() => embedded(gone.keyPublic)), await serve(() => embedded(early.keyPublic))];
    const gone = await mint([revoked]);
    await call('DELETE', `/agents/${agent}/publishable-keys/${gone.id}`);
    const draft = (await call<{ id: string }>('POST', '/agents', { name: 'Not yet' })).id;
    const early = await mint([fresh], {}, draft);
    await broken(elsewhere, `this page's origin, ${elsewhere}, is not on the list of the publishable key …${key.keyPublic.slice(-6)}`);
    await broken(strict, `Content-Security-Policy keeps the chat from its server. Add ${product.url} to connect-src`);
    await broken(revoked, `the publishable key …${gone.keyPublic.slice(-6)} was revoked`);
    await broken(fresh, 'the agent was never published');
  });

  it('comes when the server can be reached again', async () => {
    const { page, wrong, context } = await visit(browser);
    await page.route((url) => url.origin === product.url, (route) => (route.request().resourceType() === 'script' ? route.continue() : route.abort()));
    await page.goto(shop);
    await told(wrong, `${product.url} can't be reached from here`);
    assert.equal(await bubble(page).isVisible(), false);
    await page.unrouteAll();
    await page.evaluate(() => dispatchEvent(new Event('online')));
    await until(page, 'Open the chat');
    await context.close();
  });

  it('closes a chat whose key is revoked meanwhile, and goes with the panel', async () => {
    const here = await serve(() => embedded(short.keyPublic));
    const short = await mint([here]);
    const { page, wrong, context } = await visit(browser);
    await page.goto(here);
    await until(page, 'Open the chat');
    await open(page);
    await until(page, 'Good day!');
    await say(page, 'When are you open?');
    await until(page, 'Opening hours');
    await call('DELETE', `/agents/${agent}/publishable-keys/${short.id}`);
    await say(page, 'And on Sundays?');
    await until(page, 'This chat is closed.');
    await until(page, 'Opening hours');
    await told(wrong, 'was revoked');
    await page.evaluate(() => (window as unknown as { flowyte: { close(): void } }).flowyte.close());
    assert.equal(await bubble(page).isVisible(), false);
    await context.close();
  });

  it('waits for the visitor’s identity where the key asks for one', async () => {
    const here = await serve(() => embedded(strict.keyPublic));
    const strict = await mint([here], { requireIdentityVerification: true });
    const { page, context } = await visit(browser);
    const warned = page.waitForEvent('console', (it) => it.type() === 'warning' && it.text().includes('window.flowyte.identify(token)'));
    await page.goto(here);
    await warned;
    assert.equal(await bubble(page).isVisible(), false);
    const part = (value: object) => Buffer.from(JSON.stringify(value)).toString('base64url');
    const claims = `${part({ alg: 'HS256', typ: 'JWT' })}.${part({ sub: 'visitor-7', aud: agent, exp: Math.floor(Date.now() / 1000) + 300 })}`;
    const token = `${claims}.${createHmac('sha256', strict.identitySecret ?? '').update(claims).digest('base64url')}`;
    await page.evaluate((it) => (window as unknown as { flowyte: { identify(token: string): void } }).flowyte.identify(it), token);
    await until(page, 'Open the chat');
    await open(page);
    await until(page, 'Good day!');
    await say(page, 'When are you open?');
    await until(page, 'Opening hours');
    await context.close();
  });

  it('works where the page forbids HTML and scripts from strings', async () => {
    const policy = `default-src 'none'; script-src ${product.url}; connect-src ${product.url}; require-trusted-types-for 'script'; trusted-types 'none'`;
    const here = await serve(() => embedded(typed.keyPublic), policy);
    const typed = await mint([here]);
    const { page, wrong, context } = await visit(browser);
    await page.goto(here);
    await until(page, 'Open the chat');
    await open(page);
    await until(page, 'Good day!');
    await say(page, 'When are you open?');
    await until(page, 'Opening hours');
    assert.deepEqual(wrong, []);
    await context.close();
  });

  it('refuses a second script with another key, and says so', async () => {
    const two = await serve(() => `${embedded(first.keyPublic)}${tag(first.keyPublic)}${tag(other.keyPublic)}`.replaceAll(' async', ''));
    const [first, other] = [await mint([two]), await mint([two])];
    const { page, wrong, context } = await visit(browser);
    await page.goto(two);
    await until(page, 'Open the chat');
    await told(wrong, `it is on this page already, under the publishable key …${first.keyPublic.slice(-6)}. The second script tag, with the publishable key …${other.keyPublic.slice(-6)}, is ignored`);
    assert.equal(wrong.length, 1, 'the same script twice is no mistake');
    assert.equal(await bubble(page).count(), 1);
    await context.close();
  });

  // Rows: PK-31. The widget is no frame and listens to no messages, so there is no origin of one to be mistaken about.
  it('takes no messages, from whichever page', async () => {
    const { page, context } = await visit(browser);
    await page.goto(shop);
    await until(page, 'Open the chat');
    await open(page);
    await until(page, 'Good day!');
    await page.evaluate(() => window.addEventListener('probe', () => undefined));
    const client = await page.context().newCDPSession(page);
    const { result } = await client.send('Runtime.evaluate', { expression: 'window' });
    const { listeners } = await client.send('DOMDebugger.getEventListeners', { objectId: result.objectId ?? '' });
    const heard = listeners.map((it) => it.type);
    assert.ok(heard.includes('probe') && !heard.includes('message'), heard.join(' '));
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
    await eventually(() => answers, (all) => all.includes(200), 'the frame of a listed page gets nothing');
    await eventually(() => wrong, (all) => all.some((it) => it.includes('without an origin (null)')), 'the sandboxed frame is not told why');
    await context.close();
  });
});
