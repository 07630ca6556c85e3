// What is typed and what is shown once is not lost, what can't be undone asks first, and every page fits where it is read.
import assert from 'node:assert/strict';
import { after, before, describe, it } from 'node:test';
import type { Browser, BrowserContext, Page } from 'playwright-core';
import { PASSWORD, Product, eventually, launch, mint, setUp, visit } from './support.ts';

let browser: Browser;
let product: Product;
let ada: Page;
let context: BrowserContext;
let wrong: string[];

before(async () => {
  browser = await launch();
  product = await Product.start();
  ({ page: ada, context, wrong } = await visit(browser));
  await setUp(ada, product);
});

after(async () => {
  await browser.close();
  product.stop();
});

/** Asks the API as the page's own session does; what stands in `data`. */
function asked<T>(page: Page, method: string, path: string, body?: object): Promise<T> {
  return page.evaluate(
    async ([verb, where, what]) => {
      const answer = await fetch(`/api/v1${where}`, { method: verb, headers: { 'content-type': 'application/json' }, ...(what ? { body: what } : {}) });
      if (!answer.ok) throw new Error(`${verb} ${where}: ${answer.status} ${await answer.text()}`);
      return ((await answer.json()) as { data: never }).data;
    },
    [method, path, body ? JSON.stringify(body) : ''] as const,
  );
}

type Key = { id: string; secret: string };
const made = (name: string, scopes = ['agents:read'], more = {}) => asked<Key>(ada, 'POST', '/api-keys', { name, scopes, ...more });
const dialog = () => ada.getByRole('dialog').last();
const copied = () => ada.getByRole('button', { name: 'I have copied it' }).click();
const scrolled = () => ada.evaluate(() => document.documentElement.scrollWidth - document.documentElement.clientWidth);

describe('forms and dialogs', { concurrency: false }, () => {
  it('keeps a secret through Escape, Back, links and a reload, and shows the next one', async () => {
    await ada.goto(`${product.url}/agents`);
    await ada.getByRole('navigation').getByRole('link', { name: 'Developer' }).click();
    const secret = await mint(ada, 'kept');
    for (let presses = 0; presses < 5; presses += 1) await ada.keyboard.press('Escape');
    const shown = ada.getByLabel('Secret key', { exact: true });
    assert.equal(await shown.textContent(), secret);
    await ada.evaluate(() => {
      history.back();
    });
    await ada.getByRole('dialog', { name: 'Leave without the secret?' }).waitFor();
    await ada.keyboard.press('Escape');
    await ada.getByRole('dialog', { name: 'Leave without the secret?' }).waitFor({ state: 'detached' });
    assert.equal(await shown.textContent(), secret);
    assert.equal(new URL(ada.url()).pathname, '/developer');
    const question = ada.waitForEvent('dialog');
    await ada.evaluate(() => setTimeout(() => { location.reload(); }));
    const unload = await question;
    assert.equal(unload.type(), 'beforeunload');
    await unload.dismiss();
    assert.equal(await shown.textContent(), secret);
    await copied();
    const next = await mint(ada, 'next');
    assert.ok(next !== secret && (await shown.isVisible()));
    await copied();
    // Whoever says so leaves.
    await mint(ada, 'left');
    await ada.evaluate(() => {
      history.back();
    });
    await ada.getByRole('button', { name: 'Leave without it' }).click();
    await ada.getByRole('heading', { name: 'Agents', level: 1 }).waitFor();
  });

  it('waits for a call with the new secret, and takes none with the old one for it', async () => {
    const key = await made('turned');
    await ada.goto(`${product.url}/developer/${key.id}`);
    await ada.getByRole('button', { name: 'Rotate' }).click();
    await dialog().getByRole('button', { name: 'Rotate' }).click();
    const fresh = (await ada.getByLabel('Secret key', { exact: true }).textContent()) ?? '';
    assert.equal((await product.call('/agents', key.secret)).status, 200);
    // Until the page behind has heard of that call.
    const used = () => asked<{ oldSecret: { calls: number } }>(ada, 'GET', `/api-keys/${key.id}/usage`);
    await eventually(used, (usage) => usage.oldSecret.calls === 1, 'the call is not counted');
    const read = ada.waitForResponse((it) => it.url().includes(key.id));
    await (await ada.waitForResponse((it) => it.url().includes(key.id))).finished();
    await (await read).finished();
    await ada.getByText(/^Waiting for the first call/).waitFor();
    assert.equal(await ada.getByText(/^Received/).count(), 0);
    assert.equal((await product.call('/agents', fresh)).status, 200);
    await ada.getByText(/Received: listAgents, allowed/).waitFor();
    await copied();
  });

  it('keeps a form through a selection dragged out and a click beside, and asks before Escape discards it', async () => {
    await ada.goto(`${product.url}/developer`);
    const opener = ada.getByRole('button', { name: 'Mint a key' });
    await opener.click();
    const name = ada.getByLabel('Name', { exact: true });
    await name.fill('typed with care');
    const box = await name.boundingBox();
    assert.ok(box);
    await ada.mouse.move(box.x + 40, box.y + box.height / 2);
    await ada.mouse.down();
    await ada.mouse.move(4, box.y + box.height / 2, { steps: 4 });
    await ada.mouse.up();
    await ada.mouse.click(4, 300);
    assert.equal(await name.inputValue(), 'typed with care');
    await ada.keyboard.press('Escape');
    await ada.getByRole('dialog', { name: 'Discard what you typed?' }).waitFor();
    for (let presses = 0; presses < 4; presses += 1) await ada.keyboard.press('Escape');
    assert.equal(await name.inputValue(), 'typed with care');
    await ada.getByRole('button', { name: 'Go on writing' }).click();
    assert.equal(await name.inputValue(), 'typed with care');
    await dialog().getByRole('button', { name: 'Close' }).click();
    await ada.getByRole('button', { name: 'Discard' }).click();
    await name.waitFor({ state: 'detached' });
    assert.equal(await ada.evaluate(() => document.activeElement?.textContent), 'Mint a key');
  });

  it('keeps an unsaved draft when a newer one comes, and publishes what it says it does', async () => {
    const agent = await asked<{ id: string }>(ada, 'POST', '/agents', { name: 'Desk' });
    await ada.goto(`${product.url}/agents/${agent.id}`);
    const greeting = ada.getByLabel('Greeting');
    await greeting.fill('Written here');
    await asked(ada, 'PATCH', `/agents/${agent.id}`, { tone: 'from elsewhere' });
    // The window comes back into view, until the page has asked.
    const noticed = async () => {
      assert.equal(await greeting.inputValue(), 'Written here');
      await ada.evaluate(() => window.dispatchEvent(new Event('visibilitychange')));
      return ada.getByText(/was saved elsewhere/).count();
    };
    await eventually(noticed, (times) => times > 0, 'the newer draft is not noticed');
    assert.equal(await greeting.inputValue(), 'Written here');
    await ada.getByRole('button', { name: 'Load version 2' }).click();
    assert.deepEqual([await greeting.inputValue(), await ada.getByLabel('Tone').inputValue()], ['', 'from elsewhere']);
    await greeting.fill('Good day');
    await ada.getByRole('button', { name: 'Publish the draft' }).click();
    await ada.getByRole('dialog', { name: 'The draft has changes that are not saved' }).getByRole('button', { name: 'Save, then publish' }).click();
    await ada.getByText('Published: channels serve version 3 from now on.').waitFor();
    const [version] = await asked<{ version: number; id: string }[]>(ada, 'GET', `/agents/${agent.id}/versions`);
    assert.equal(version?.version, 3);
    assert.equal((await asked<{ greeting: string }>(ada, 'GET', `/agents/${agent.id}`)).greeting, 'Good day');
    // A link away asks first.
    await greeting.fill('Good day, and good bye');
    await ada.getByRole('navigation').getByRole('link', { name: 'Members' }).click();
    await ada.getByRole('dialog', { name: 'Leave without saving?' }).getByRole('button', { name: 'Stay' }).click();
    assert.equal(await greeting.inputValue(), 'Good day, and good bye');
    await ada.getByRole('button', { name: 'Save the draft' }).click();
    await ada.getByRole('heading', { name: 'Draft, version 4' }).waitFor();
    await ada.getByRole('navigation').getByRole('link', { name: 'Members' }).click();
    await ada.getByRole('heading', { name: 'Members', level: 1 }).waitFor();
  });

  it('signs in again in place when the session ends, and goes on with the form', async () => {
    await ada.goto(`${product.url}/developer`);
    await ada.getByRole('button', { name: 'Mint a key' }).click();
    await ada.getByLabel('Name', { exact: true }).fill('survives');
    await ada.getByRole('checkbox', { name: /^agents:read / }).check();
    await context.clearCookies();
    await ada.getByRole('button', { name: 'Mint', exact: true }).click();
    const again = ada.getByRole('dialog', { name: 'Your session has ended' });
    await again.getByLabel('Password').fill(PASSWORD);
    await again.getByRole('button', { name: 'Sign in' }).click();
    await again.waitFor({ state: 'detached' });
    assert.equal(await ada.getByLabel('Name', { exact: true }).inputValue(), 'survives');
    await ada.getByRole('button', { name: 'Mint', exact: true }).click();
    await ada.getByRole('dialog', { name: 'Copy the secret of survives' }).waitFor();
    await copied();
  });

  it('revokes a name by what is shown of it, and has room for any', async () => {
    const spaced = await made('two  spaces');
    await made('👩\u200d💻 nightly');
    await made('می\u200cخواهم');
    await ada.goto(`${product.url}/developer/${spaced.id}`);
    await ada.getByRole('button', { name: 'Revoke' }).click();
    await dialog().getByRole('textbox').fill('two spaces');
    await dialog().getByRole('button', { name: 'Revoke for good' }).click();
    await ada.getByText(/accepted nowhere any more/).waitFor();
    const long = await made('x'.repeat(100));
    await ada.setViewportSize({ width: 390, height: 700 });
    await ada.goto(`${product.url}/developer/${long.id}`);
    for (const action of ['Revoke', 'Rotate', 'Change']) {
      await ada.getByRole('button', { name: action, exact: true }).click();
      assert.equal(await dialog().evaluate((it) => it.scrollWidth - it.clientWidth), 0, action);
      await ada.keyboard.press('Escape');
      await ada.getByRole('dialog').waitFor({ state: 'detached' });
    }
    assert.equal(await scrolled(), 0);
    await ada.setViewportSize({ width: 1280, height: 720 });
    // Refused names are refused with a sentence.
    await ada.goto(`${product.url}/developer`);
    await ada.getByRole('button', { name: 'Mint a key' }).click();
    await ada.getByLabel('Name', { exact: true }).fill('a\u202eb');
    await ada.getByRole('checkbox', { name: /^agents:read / }).check();
    await ada.getByRole('button', { name: 'Mint', exact: true }).click();
    const said = (await ada.locator('.field', { has: ada.getByLabel('Name', { exact: true }) }).getByRole('alert').textContent()) ?? '';
    assert.match(said, /must be one line with at least one visible character/);
  });

  it('asks before it narrows a key, ends a secret or buys a number, and says what will happen', async () => {
    const key = await made('wide', ['agents:read', 'billing:read']);
    await product.call('/agents', key.secret);
    await asked(ada, 'POST', `/api-keys/${key.id}/rotate`, {});
    await product.call('/agents', key.secret);
    const scopes = async () => (await asked<{ scopes: string[] }>(ada, 'GET', `/api-keys/${key.id}`)).scopes;
    await ada.goto(`${product.url}/developer/${key.id}`);
    await ada.getByText('Still used: 1 call since the rotation from 1 address').waitFor();
    await ada.getByRole('button', { name: /^Narrow to the 1 scope/ }).click();
    assert.deepEqual(await scopes(), ['agents:read', 'billing:read']);
    await dialog().getByText(/observed for less than a week/).waitFor();
    await dialog().getByText('billing:read').waitFor();
    await dialog().getByRole('button', { name: 'Take away 1 scope' }).click();
    await ada.getByRole('dialog').waitFor({ state: 'detached' });
    assert.deepEqual(await scopes(), ['agents:read']);
    await ada.getByRole('button', { name: 'End it now' }).click();
    assert.equal((await product.call('/whoami', key.secret)).status, 200);
    await dialog().getByRole('listitem').filter({ hasText: '127.0.0.1' }).waitFor();
    await dialog().getByRole('button', { name: 'End it now' }).click();
    await ada.getByText(/^The old secret/).waitFor({ state: 'detached' });
    assert.equal((await product.call('/whoami', key.secret)).status, 401);
    await asked(ada, 'POST', '/billing/wallet/topup', { amountUsd: 25 });
    await ada.goto(`${product.url}/numbers`);
    await ada.getByRole('button', { name: 'Find a number' }).click();
    await ada.getByRole('button', { name: 'Search' }).click();
    await ada.getByRole('button', { name: /^Buy/ }).first().click();
    await dialog().getByText(/for the first month\. After that it costs \$[\d.]+ a month/).waitFor();
    assert.deepEqual(await asked(ada, 'GET', '/numbers'), []);
    await dialog().getByRole('button', { name: /^Buy for \$/ }).click();
    await ada.getByText(/is yours/).waitFor();
  });

  it('shows dates with their distance, and one truth on list, page and log', async () => {
    const key = await made('dated', ['agents:read'], { expiresAt: new Date(Date.now() + 90 * 86_400_000).toISOString() });
    await ada.goto(`${product.url}/developer/${key.id}`);
    const expires = ada.locator('dd', { hasText: 'in 90 days' });
    assert.match((await expires.textContent()) ?? '', /^\d{1,2} [A-Z][a-z]+ \d{4} \(in 90 days\)$/);
    // Pages that were seen a moment ago.
    const to = async (name: string) => {
      await ada.getByRole('navigation').getByRole('link', { name }).click();
      await ada.getByRole('heading', { name, level: 1 }).waitFor();
    };
    await to('Audit log');
    await ada.getByRole('row', { name: /api_key.minted.*dated/ }).waitFor();
    await to('Developer');
    await ada.getByRole('link', { name: 'dated' }).click();
    await ada.getByRole('button', { name: 'Revoke' }).click();
    await dialog().getByRole('textbox').fill('dated');
    await dialog().getByRole('button', { name: 'Revoke for good' }).click();
    await ada.getByText(/accepted nowhere any more/).waitFor();
    await ada.getByRole('region', { name: 'Audit trail' }).getByText('api_key.revoked').waitFor();
    await to('Developer');
    await ada.getByRole('row', { name: /^dated .*revoked/ }).waitFor({ timeout: 2_000 });
    await to('Audit log');
    await ada.getByRole('row', { name: /api_key.revoked.*dated/ }).waitFor({ timeout: 2_000 });
  });

  it('opens dialogs on their first field, with one scroll area and the buttons in view', async () => {
    await ada.setViewportSize({ width: 1280, height: 500 });
    await ada.goto(`${product.url}/developer`);
    await ada.getByRole('button', { name: 'Mint a key' }).focus();
    await ada.keyboard.press('Enter');
    await ada.getByRole('checkbox', { name: /^agents:read / }).waitFor();
    assert.equal(await ada.evaluate(() => (document.activeElement as HTMLInputElement).labels?.[0]?.textContent), 'Name');
    const areas = await dialog().evaluate((it) =>
      [it, ...it.querySelectorAll('*')].filter((one) => one.scrollHeight > one.clientHeight + 1 && /auto|scroll/.test(getComputedStyle(one).overflowY)).map((one) => one.tagName),
    );
    assert.deepEqual(areas, ['DIALOG']);
    const box = await dialog().getByRole('button', { name: 'Choose a scope' }).boundingBox();
    assert.ok(box && box.y >= 0 && box.y + box.height <= 500, JSON.stringify(box));
    await ada.keyboard.press('Escape');
    await ada.getByRole('dialog').waitFor({ state: 'detached' });
    assert.equal(await ada.evaluate(() => document.activeElement?.textContent), 'Mint a key');
    await ada.goto(`${product.url}/agents`);
    await ada.getByRole('link', { name: 'Desk' }).click();
    await ada.getByRole('button', { name: 'Add a source' }).click();
    assert.equal(await ada.evaluate(() => (document.activeElement as HTMLInputElement).labels?.[0]?.textContent), 'Kind');
    await ada.setViewportSize({ width: 1280, height: 720 });
  });

  it('fits on phones and at twice the size without scrolling sideways', async () => {
    const [key] = await asked<Key[]>(ada, 'GET', '/api-keys?limit=1');
    const [agent] = await asked<{ id: string }[]>(ada, 'GET', '/agents');
    await asked(ada, 'POST', `/agents/${agent?.id}/publishable-keys`, { name: 'y'.repeat(100), env: 'live', allowedOrigins: [`https://${'long-'.repeat(10)}name.example`] });
    const talk = await asked<{ id: string }>(ada, 'POST', '/chat/sessions', { agentId: agent?.id });
    await ada.evaluate((id) => fetch(`/api/v1/chat/sessions/${id}/messages`, { method: 'POST', headers: { 'content-type': 'application/json' }, body: JSON.stringify({ content: `What of ${'w'.repeat(120)}?` }) }).then((it) => it.text()), talk.id);
    const [conversation] = await asked<{ id: string }[]>(ada, 'GET', '/conversations');
    const paths = ['developer', `developer/${key?.id}`, 'agents', `agents/${agent?.id}`, 'conversations', `conversations/${conversation?.id}`, 'analytics', 'numbers', 'wallet', 'members', 'audit', 'sessions', 'reference'];
    const found: string[] = [];
    const wide = async (where: string) => {
      const parts = await ada.evaluate(() =>
        [...document.querySelectorAll('*')]
          .filter((it) => it.scrollWidth > it.clientWidth + 1 && it.clientWidth > 1 && /auto|scroll/.test(getComputedStyle(it).overflowX))
          .map((it) => `${it.tagName} ${it.className} ${it.getAttribute('aria-label') ?? ''} ${it.scrollWidth} > ${it.clientWidth}`),
      );
      // The preview of the widget, whose inside can't be measured, would be cut off by its page.
      const preview = ada.locator('flowyte-widget');
      if ((await preview.count()) > 0) {
        const [box, room] = [await preview.boundingBox(), await preview.locator('..').boundingBox()];
        if (!box || !room || box.width > room.width + 1) found.push(`${where}: the preview, ${box?.width} > ${room?.width}`);
      }
      const page = await scrolled();
      if (page > 0) found.push(`${where}: the page, by ${page}`);
      found.push(...parts.map((it) => `${where}: ${it}`));
    };
    for (const path of paths) {
      await ada.goto(`${product.url}/${path}`);
      await ada.getByRole('heading', { level: 1 }).waitFor();
      await ada.waitForFunction(() => !document.querySelector('.bone'));
      for (const width of [360, 390, 640, 960, 1024, 1280]) {
        await ada.setViewportSize({ width, height: 700 });
        await wide(`${path} at ${width}`);
      }
    }
    for (const path of ['signin', 'signup', 'setup', 'invite']) {
      await ada.goto(`${product.url}/${path}`);
      await ada.getByRole('heading', { level: 1 }).waitFor();
      await ada.setViewportSize({ width: 360, height: 700 });
      await wide(`${path} at 360`);
    }
    // The server's own pages: refusals, and the reference with an operation open.
    for (const [path, there] of [['errors', 'Refusals'], ['errors/verification_unavailable', ''], ['docs#/apikeys/mintApiKey', 'Parameters']] as const) {
      await ada.goto('about:blank');
      await ada.goto(`${product.url}/${path}`);
      await ada.getByRole('heading', { name: there }).first().waitFor();
      for (const width of [360, 390, 640]) {
        await ada.setViewportSize({ width, height: 700 });
        const page = await scrolled();
        if (page > 0) found.push(`${path} at ${width}: the page, by ${page}`);
      }
    }
    await ada.setViewportSize({ width: 1280, height: 720 });
    assert.deepEqual(found, []);
  });

  it('shows a conversation whole, however long it was', async () => {
    const [agent] = await asked<{ id: string }[]>(ada, 'GET', '/agents');
    const talk = await asked<{ id: string }>(ada, 'POST', '/chat/sessions', { agentId: agent?.id });
    for (let n = 1; n <= 12; n += 1) {
      await ada.evaluate(([id, content]) => fetch(`/api/v1/chat/sessions/${id}/messages`, { method: 'POST', headers: { 'content-type': 'application/json' }, body: JSON.stringify({ content }) }).then((it) => it.text()), [talk.id, `Question number ${n}`] as const);
    }
    const [conversation] = await asked<{ id: string }[]>(ada, 'GET', '/conversations');
    await ada.goto(`${product.url}/conversations/${conversation?.id}`);
    await ada.getByRole('region', { name: 'Transcript' }).getByText('Question number 12').waitFor();
    assert.ok((await ada.getByRole('region', { name: 'Receipt' }).locator('summary').count()) > 20);
  });

  it('changes of a skill and of the widget only what was changed', async () => {
    const agent = await asked<{ id: string }>(ada, 'POST', '/agents', { name: 'Two hands' });
    const skill = await asked<{ id: string }>(ada, 'POST', `/agents/${agent.id}/skills`, { name: 'Stop', description: 'Stops.', skillType: 'builtin', executionConfig: { action: 'end_call' } });
    await ada.goto(`${product.url}/agents/${agent.id}`);
    await ada.getByRole('region', { name: 'Skills' }).getByRole('button', { name: 'Change' }).click();
    await dialog().getByLabel('Description').fill('Stops at once.');
    await asked(ada, 'PATCH', `/agents/${agent.id}/skills/${skill.id}`, { requiresConfirmation: true });
    await dialog().getByRole('button', { name: 'Save' }).click();
    await ada.getByRole('dialog').waitFor({ state: 'detached' });
    const [now] = await asked<{ description: string; requiresConfirmation: boolean }[]>(ada, 'GET', `/agents/${agent.id}/skills`);
    assert.deepEqual([now?.description, now?.requiresConfirmation], ['Stops at once.', true]);
    // Somebody else gives the widget a colour: the page shows it, takes it for no text of its own, and does not undo it.
    await asked(ada, 'PUT', `/agents/${agent.id}/widget`, { theme: { primaryColor: '#123456' }, copy: {}, behavior: {} });
    const widget = ada.getByRole('region', { name: 'Widget' });
    const colour = async () => {
      await ada.evaluate(() => window.dispatchEvent(new Event('visibilitychange')));
      return widget.getByLabel('Colour').inputValue();
    };
    await eventually(colour, (it) => it === '#123456', 'the colour does not come');
    assert.equal(await widget.getByText('Not saved yet').count(), 0);
    await widget.getByLabel('Title').fill('Ask us');
    await widget.getByRole('button', { name: 'Save the widget' }).click();
    await widget.getByText('Saved', { exact: true }).waitFor();
    const looks = await asked<{ theme: object; copy: object }>(ada, 'GET', `/agents/${agent.id}/widget`);
    assert.deepEqual([looks.theme, looks.copy], [{ primaryColor: '#123456' }, { title: 'Ask us' }]);
  });

  it('says where loading or saving failed, and tries again, without a network too', async () => {
    // The session itself: no page can be shown, which is no reason to sign in again.
    await ada.route('**/api/v1/auth/session', (route) => route.abort());
    await ada.goto(`${product.url}/members`);
    await ada.getByRole('heading', { name: 'This page could not be loaded' }).waitFor();
    await ada.unroute('**/api/v1/auth/session');
    await ada.getByRole('button', { name: 'Try again' }).click();
    await ada.getByRole('heading', { name: 'Members', level: 1 }).waitFor();
    assert.ok(wrong.splice(0).every((it) => it.includes('can’t be reached')), 'only the failure that was made');
    // An answer that can't be asked for, or breaks off: said in words, and the question is still there.
    const [agent] = await asked<{ id: string }[]>(ada, 'GET', '/agents');
    await ada.goto(`${product.url}/agents/${agent?.id}`);
    const simulator = ada.getByRole('region', { name: 'Simulator' });
    const half = 'event: user_utterance\ndata: {"text":"Are you there?"}\n\n';
    for (const [answer, said] of [[undefined, /can’t be reached/], [half, /connection was lost/]] as const) {
      await ada.route('**/simulate', (route) => (answer ? route.fulfill({ contentType: 'text/event-stream', body: answer }) : route.abort()), { times: 1 });
      await simulator.getByLabel('Message').fill('Are you there?');
      await simulator.getByRole('button', { name: 'Say it' }).click();
      await simulator.getByText(said).waitFor();
      assert.equal(await simulator.getByLabel('Message').inputValue(), 'Are you there?');
    }
    // A newer draft says other things, so what was said goes, but not what is being typed.
    await ada.getByLabel('Greeting').fill('Good day!');
    await ada.getByRole('button', { name: 'Save the draft' }).click();
    await simulator.getByRole('listitem').first().waitFor({ state: 'detached' });
    assert.equal(await simulator.getByLabel('Message').inputValue(), 'Are you there?');
    await ada.route('**/api/v1/openapi.json', (route) => route.abort());
    await ada.goto(`${product.url}/reference`);
    await ada.getByText(/can’t be reached/).waitFor();
    await ada.unroute('**/api/v1/openapi.json');
    await ada.getByRole('button', { name: 'Try again' }).click();
    await ada.getByRole('row', { name: /\blistAgents\b/ }).waitFor();
    let broken = true;
    await ada.route(/\/api\/v1\/api-keys(\?|$)/, (route) => (broken && route.request().method() === 'GET' ? route.abort() : route.continue()));
    await ada.goto(`${product.url}/developer`);
    const card = ada.getByRole('region', { name: 'Secret keys' });
    await card.getByText(/can’t be reached/).waitFor();
    broken = false;
    await card.getByRole('button', { name: 'Try again' }).click();
    await card.getByRole('link', { name: 'kept' }).waitFor();
    await ada.unroute(/\/api\/v1\/api-keys(\?|$)/);
    await ada.getByRole('button', { name: 'Mint a key' }).click();
    await ada.getByLabel('Name', { exact: true }).fill('without a network');
    await ada.getByRole('checkbox', { name: /^agents:read / }).check();
    await context.setOffline(true);
    await ada.getByRole('button', { name: 'Mint', exact: true }).click();
    await dialog().getByText(/can’t be reached/).waitFor();
    await context.setOffline(false);
    assert.equal(await ada.getByLabel('Name', { exact: true }).inputValue(), 'without a network');
    await ada.getByRole('button', { name: 'Mint', exact: true }).click();
    await ada.getByRole('dialog', { name: 'Copy the secret of without a network' }).waitFor();
    await copied();
    const list = await asked<{ name: string }[]>(ada, 'GET', '/api-keys?limit=5');
    // Whoever could not be signed out is told so, and stays.
    await context.setOffline(true);
    await ada.getByRole('button', { name: 'Sign out' }).click();
    await ada.getByRole('complementary').getByText(/can’t be reached/).waitFor();
    await context.setOffline(false);
    await ada.getByRole('complementary').getByRole('button', { name: 'Try again' }).click();
    await ada.getByRole('heading', { name: 'Sign in' }).waitFor();
    assert.equal(await ada.getByRole('dialog').count(), 0);
    assert.equal(list.filter((it) => it.name === 'without a network').length, 1);
    assert.deepEqual(wrong, []);
  });
});
