// Several tabs of one person, several people at one key, and more keys than a page holds.
import assert from 'node:assert/strict';
import { after, before, describe, it } from 'node:test';
import type { Browser, BrowserContext, Page } from 'playwright-core';
import { Product, launch, mintMany, setUp, visit } from './support.ts';

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

type Answer<T> = { data: T; status: number };

/** Calls the API with the session, past the page. */
function call<T>(page: Page, method: string, path: string, body?: unknown): Promise<Answer<T>> {
  return page.evaluate(
    async ([how, where, what]) => {
      const answer = await fetch(`/api/v1${where}`, { method: how, ...(what === null ? {} : { headers: { 'content-type': 'application/json' }, body: what }) });
      return { ...((await answer.json()) as object), status: answer.status } as never;
    },
    [method, path, body === undefined ? null : JSON.stringify(body)] as const,
  );
}

const shown = (page: Page) => page.getByLabel('Organization').locator('option:checked').textContent();
const names = (page: Page) => page.getByRole('region', { name: 'Table of keys' }).getByRole('link').allTextContents();

/** Fills the dialog that mints, and leaves it open. */
async function fillMint(page: Page, name: string): Promise<void> {
  await page.getByRole('button', { name: /^Mint (a|the first) key$/ }).first().click();
  await page.getByLabel('Name', { exact: true }).fill(name);
  await page.getByRole('checkbox', { name: /^agents:read / }).check();
}

describe('organizations, people and many keys', { concurrency: false }, () => {
  it('never mints into, nor shows, another organization than the page says', async () => {
    await call(ada, 'POST', '/api-keys', { name: 'of alpha', scopes: ['agents:read'] });
    await call(ada, 'POST', '/organizations', { name: 'Beta' });
    // A tab that was asleep and did not hear of the switch.
    const asleep = await context.newPage();
    await asleep.addInitScript(() => {
      window.BroadcastChannel.prototype.postMessage = () => undefined;
      Object.defineProperty(window.BroadcastChannel.prototype, 'onmessage', { set: () => undefined });
    });
    await asleep.goto(`${product.url}/developer`);
    await asleep.getByRole('link', { name: 'of alpha' }).waitFor();
    await fillMint(asleep, 'meant for alpha');
    const awake = await context.newPage();
    await awake.goto(`${product.url}/developer`);
    await awake.getByRole('link', { name: 'of alpha' }).waitFor();
    await ada.goto(`${product.url}/developer`);
    await ada.getByRole('link', { name: 'of alpha' }).waitFor();
    // The keys of Beta take their time: until they are there, nothing of Alpha stands under its name.
    let arrive = () => {};
    const arrived = new Promise<void>((done) => {
      arrive = done;
    });
    await ada.route('**/api/v1/api-keys*', async (route) => {
      await arrived;
      await route.continue();
    });
    await ada.getByLabel('Organization').selectOption({ label: 'Beta (owner)' });
    await ada.getByRole('status', { name: 'Loading' }).first().waitFor();
    assert.deepEqual([await shown(ada), await ada.getByText('of alpha').count()], ['Beta (owner)', 0]);
    arrive();
    await ada.getByText('No keys yet').waitFor();
    await ada.unroute('**/api/v1/api-keys*');
    // The tab that is awake follows by itself.
    await awake.getByText('No keys yet').waitFor();
    assert.equal(await shown(awake), 'Beta (owner)');
    // The one that was asleep still shows Alpha: what it sends is refused, and what was typed stays until somebody gives it up.
    const refused = asleep.waitForResponse((it) => it.request().method() === 'POST' && it.url().endsWith('/api-keys'));
    await asleep.getByRole('button', { name: 'Mint', exact: true }).click();
    assert.equal((await refused).status(), 409);
    await asleep.getByRole('dialog', { name: 'This page belongs to Alpha' }).getByRole('button', { name: 'Go to Beta, and lose it' }).click();
    await asleep.getByText('No keys yet').waitFor();
    assert.equal(await shown(asleep), 'Beta (owner)');
    assert.deepEqual((await call<unknown[]>(ada, 'GET', '/api-keys')).data, []);
    // Back: every tab that can hear shows Alpha again.
    await ada.getByLabel('Organization').selectOption({ label: 'Alpha (owner)' });
    await awake.getByRole('link', { name: 'of alpha' }).waitFor();
    assert.deepEqual(await names(awake), ['of alpha']);
    await awake.close();
    await asleep.close();
    assert.deepEqual(wrong, []);
  });

  it('keeps what is not saved, and a secret that is shown, when another tab goes to another organization', async () => {
    const other = await context.newPage();
    await other.goto(`${product.url}/developer`);
    const go = (name: string) => other.getByLabel('Organization').selectOption({ label: `${name} (owner)` });
    await ada.goto(`${product.url}/developer`);
    await fillMint(ada, 'written in alpha');
    await go('Beta');
    const asked = ada.getByRole('dialog', { name: 'This page belongs to Alpha' });
    await asked.getByText(/Another tab went to Beta/).waitFor();
    await asked.getByRole('button', { name: 'Look at this page' }).click();
    assert.equal(await shown(ada), 'Alpha (owner)');
    assert.equal(await ada.getByLabel('Name', { exact: true }).inputValue(), 'written in alpha');
    // Saving it is refused, and leads back to the question; going back saves it.
    await ada.getByRole('button', { name: 'Mint', exact: true }).click();
    await asked.getByRole('button', { name: 'Go back to Alpha' }).click();
    await asked.waitFor({ state: 'detached' });
    await ada.getByRole('button', { name: 'Mint', exact: true }).click();
    const secret = ada.getByLabel('Secret key', { exact: true });
    assert.match((await secret.textContent()) ?? '', /^flowyte_sk_live_/);
    await go('Beta');
    await asked.getByRole('button', { name: 'Look at this page' }).click();
    assert.ok(await secret.isVisible());
    // Once nothing is left to lose, the page follows.
    await ada.getByRole('button', { name: 'I have copied it' }).click();
    await ada.getByText('No keys yet').waitFor();
    assert.equal(await shown(ada), 'Beta (owner)');
    await go('Alpha');
    await ada.getByRole('link', { name: 'written in alpha' }).waitFor();
    await other.close();
    assert.deepEqual(wrong, []);
  });

  it('asks before this tab leaves an unsaved text for another organization, or signs out', async () => {
    const agent = await call<{ id: string }>(ada, 'POST', '/agents', { name: 'Desk' });
    await ada.goto(`${product.url}/agents/${agent.data.id}`);
    await ada.getByLabel('Greeting').fill('Written here');
    const question = ada.getByRole('dialog', { name: 'Leave without saving?' });
    for (const act of [() => ada.getByLabel('Organization').selectOption({ label: 'Beta (owner)' }), () => ada.getByRole('button', { name: 'Sign out' }).click()]) {
      await act();
      await question.getByRole('button', { name: 'Stay' }).click();
      assert.equal(await ada.getByLabel('Greeting').inputValue(), 'Written here');
      assert.equal(await shown(ada), 'Alpha (owner)');
    }
    await ada.getByLabel('Organization').selectOption({ label: 'Beta (owner)' });
    await question.getByRole('button', { name: 'Leave without saving' }).click();
    await ada.getByText('No agents yet').waitFor();
    await ada.getByLabel('Organization').selectOption({ label: 'Alpha (owner)' });
    await ada.getByRole('link', { name: 'Desk' }).waitFor();
  });

  it('changes what was changed, and not what somebody else changed meanwhile', async () => {
    const made = await call<{ id: string }>(ada, 'POST', '/api-keys', { name: 'shared', scopes: ['agents:read', 'agents:write'] });
    const key = () => call<{ name: string; scopes: string[] }>(ada, 'GET', `/api-keys/${made.data.id}`);
    await ada.goto(`${product.url}/developer/${made.data.id}`);
    const sent: unknown[] = [];
    ada.on('request', (request) => {
      if (request.method() === 'PATCH') sent.push(request.postDataJSON());
    });
    await ada.getByRole('button', { name: 'Change', exact: true }).click();
    await ada.getByRole('dialog').getByLabel('Name').fill('renamed');
    // Meanwhile somebody else narrows it.
    await call(ada, 'PATCH', `/api-keys/${made.data.id}`, { scopes: ['agents:read'] });
    await ada.getByRole('dialog').getByRole('button', { name: 'Save' }).click();
    await ada.getByRole('dialog').getByText(/Somebody changed this since it was read/).waitFor();
    assert.deepEqual((await key()).data.scopes, ['agents:read']);
    await ada.getByRole('dialog').getByRole('button', { name: 'Cancel' }).click();
    await ada.reload();
    await ada.getByRole('button', { name: 'Change', exact: true }).click();
    await ada.getByRole('dialog').getByLabel('Name').fill('renamed');
    await ada.getByRole('dialog').getByRole('button', { name: 'Save' }).click();
    await ada.getByRole('heading', { name: 'renamed' }).waitFor();
    const { data } = await key();
    assert.deepEqual([data.name, data.scopes], ['renamed', ['agents:read']]);
    assert.deepEqual(sent.filter((it) => JSON.stringify(it).includes('name')), [{ name: 'renamed' }, { name: 'renamed' }]);
  });

  it('finds, pages and sorts any number of keys, and Back brings them back', async () => {
    await mintMany(ada, 120);
    await ada.goto(`${product.url}/developer`);
    await ada.getByRole('link', { name: 'worker 0120' }).waitFor();
    assert.equal((await names(ada)).length, 50);
    await ada.getByRole('button', { name: 'Next page' }).click();
    await ada.getByRole('link', { name: 'worker 0070' }).waitFor();
    await ada.getByRole('button', { name: 'Next page' }).click();
    await ada.getByRole('link', { name: 'worker 0001' }).waitFor();
    await ada.getByRole('link', { name: 'renamed' }).click();
    await ada.getByRole('heading', { name: 'renamed' }).waitFor();
    await ada.goBack();
    await ada.getByRole('link', { name: 'worker 0001' }).waitFor();
    await ada.goBack();
    await ada.getByRole('link', { name: 'worker 0070' }).waitFor();
    // A search finds what no page showed; it stands in the address and outlives a reload.
    await ada.goto(`${product.url}/developer`);
    await ada.getByLabel('Search').fill('WORKER 0003');
    await ada.getByRole('link', { name: 'worker 0003' }).waitFor();
    assert.deepEqual(await names(ada), ['worker 0003']);
    await ada.getByRole('link', { name: 'worker 0003' }).click();
    await ada.getByRole('heading', { name: 'worker 0003' }).waitFor();
    await ada.goBack();
    await ada.getByRole('link', { name: 'worker 0003' }).waitFor();
    assert.equal(await ada.getByLabel('Search').inputValue(), 'WORKER 0003');
    await ada.reload();
    await ada.getByRole('link', { name: 'worker 0003' }).waitFor();
    assert.deepEqual(await names(ada), ['worker 0003']);
    await ada.getByLabel('Search').fill('%');
    await ada.getByText('No key fits the search').waitFor();
    await ada.getByLabel('Search').fill('worker');
    await ada.getByLabel('Environment').selectOption('Test');
    await ada.getByText('More filters').click();
    await ada.getByLabel('Order').selectOption('Oldest first');
    await ada.getByRole('link', { name: 'worker 0002' }).waitFor({ state: 'detached' });
    await ada.getByRole('link', { name: 'worker 0001' }).waitFor();
    assert.deepEqual((await names(ada)).slice(0, 3), ['worker 0001', 'worker 0004', 'worker 0007']);
    // What was done to an old key is found behind all that was done since, and it can be chosen in the reference.
    await ada.goto(`${product.url}/developer`);
    await ada.getByLabel('Search').fill('renamed');
    await ada.getByRole('link', { name: 'renamed' }).click();
    await ada.getByRole('region', { name: 'Audit trail' }).getByText('api_key.minted').waitFor();
    await ada.goto(`${product.url}/reference`);
    await ada.getByLabel('Find a key').fill('renamed');
    const caller = ada.getByLabel('As', { exact: true });
    await caller.locator('option', { hasText: 'renamed' }).waitFor({ state: 'attached' });
    const label = (await caller.locator('option', { hasText: 'renamed' }).textContent()) ?? '';
    await caller.selectOption({ label });
    await ada.getByText('Holds').waitFor();
    await ada.getByLabel('Find a key').fill('');
    await caller.locator('option', { hasText: 'worker 0120' }).waitFor({ state: 'attached' });
    assert.equal(await caller.locator('option:checked').textContent(), label);
    // A day that no calendar has is no filter, and breaks nothing.
    await ada.goto(`${product.url}/developer?unusedSince=12026-01-01`);
    await ada.getByRole('link', { name: 'worker 0120' }).waitFor();
    await ada.goto(`${product.url}/audit?from=soon`);
    await ada.getByRole('region', { name: 'Table of events' }).waitFor();
    assert.deepEqual(wrong, []);
  });

  it('finds agents, members and publishable keys by their names, and Back brings the search back', async () => {
    const desk = (await call<{ id: string }>(ada, 'POST', '/agents', { name: 'Front desk' })).data.id;
    for (let n = 0; n < 55; n += 1) {
      await call(ada, 'POST', '/agents', { name: `robot ${n}` });
      await call(ada, 'POST', `/agents/${desk}/publishable-keys`, { name: `site ${n}`, env: 'live', allowedOrigins: [`https://s${n}.example`] });
    }
    await ada.goto(`${product.url}/agents`);
    await ada.getByRole('link', { name: 'robot 54' }).waitFor();
    assert.equal(await ada.getByRole('link', { name: 'Front desk' }).count(), 0);
    await ada.getByLabel('Search').fill('FRONT');
    await ada.getByRole('link', { name: 'Front desk' }).click();
    await ada.getByRole('heading', { name: 'Front desk' }).waitFor();
    const keys = ada.getByRole('region', { name: 'Table of publishable keys' });
    await keys.getByText('site 54').waitFor();
    assert.equal(await keys.getByText('https://s0.example').count(), 0);
    await ada.getByRole('button', { name: 'Older keys' }).click();
    await keys.getByText('https://s0.example').waitFor();
    await ada.getByLabel('Find a publishable key').fill('site 3');
    await keys.getByText('https://s4.example').waitFor({ state: 'detached' });
    await ada.goBack();
    await ada.getByRole('link', { name: 'Front desk' }).waitFor();
    assert.equal(await ada.getByLabel('Search').inputValue(), 'FRONT');
    await ada.goto(`${product.url}/members?search=nobody`);
    await ada.getByText('No member fits the search').waitFor();
    await ada.getByLabel('Search').fill('ada@');
    await ada.getByRole('cell', { name: 'ada@alpha.example' }).waitFor();
    assert.deepEqual(wrong, []);
  });
});
