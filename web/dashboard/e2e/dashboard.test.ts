// What people do, in a real browser, against the real binary.
import assert from 'node:assert/strict';
import { after, before, describe, it } from 'node:test';
import { AxeBuilder } from '@axe-core/playwright';
import { gunzipSync } from 'node:zlib';
import { readFileSync, readdirSync } from 'node:fs';
import { createServer } from 'node:http';
import type { AddressInfo } from 'node:net';
import { join } from 'node:path';
import type { Browser, Page } from 'playwright-core';
import { PASSWORD, Product, eventually, launch, mint, say, until, visit } from './support.ts';

let browser: Browser;
let product: Product;
let ada: Page;
let wrong: string[];

before(async () => {
  browser = await launch();
  product = await Product.start();
  ({ page: ada, wrong } = await visit(browser));
});

after(async () => {
  await browser.close();
  product.stop();
});

async function accessible(page: Page, what: string): Promise<void> {
  for (const theme of ['light', 'dark']) {
    await page.evaluate((it) => (document.documentElement.dataset.theme = it), theme);
    const { violations } = await new AxeBuilder({ page }).analyze();
    const found = violations.map((it) => `${it.id}: ${it.nodes.map((node) => node.html).join(' ')}`);
    assert.deepEqual(found, [], `${what}, ${theme}`);
  }
  await page.evaluate(() => (document.documentElement.dataset.theme = 'light'));
}

describe('the dashboard', { concurrency: false }, () => {
  it('goes from the printed link to the first call received', async () => {
    await ada.goto(product.setUpLink);
    assert.equal(new URL(ada.url()).hash, '', 'the token stays in the address bar');
    await accessible(ada, 'set-up');
    // Beside the field, what is wrong with it.
    await ada.getByLabel('Organization').fill('Alpha');
    await ada.getByLabel('Your name').fill('Ada');
    await ada.getByLabel('E-mail').fill('ada@alpha.example');
    await ada.getByLabel('Password').fill('passwordpassword');
    await ada.getByRole('button', { name: 'Set up' }).click();
    await ada.locator('.field', { has: ada.getByLabel('Password') }).getByText(/too easy to guess/).waitFor();
    await ada.getByLabel('Password').fill(PASSWORD);
    await ada.getByRole('button', { name: 'Set up' }).click();
    await ada.getByRole('heading', { name: 'Developer' }).waitFor();
    await accessible(ada, 'no keys');
    const secret = await mint(ada, 'first');
    await accessible(ada, 'the secret');
    await ada.keyboard.press('Escape');
    await ada.getByText('Waiting for the first call with this secret…').waitFor();
    await ada.getByRole('button', { name: 'Copy' }).first().click();
    assert.equal(await ada.evaluate(() => navigator.clipboard.readText()), secret);
    assert.equal((await product.call('/agents', secret)).status, 200);
    await ada.getByText(/Received: listAgents, allowed/).waitFor();
    await ada.getByRole('button', { name: 'I have copied it' }).click();
    // Nothing keeps the secret: not the page, not storage, not the address. Rows: SX-07.
    const kept = await ada.evaluate(() => document.documentElement.outerHTML + JSON.stringify(localStorage) + JSON.stringify(sessionStorage) + location.href + JSON.stringify(history.state));
    assert.ok(!kept.includes(secret.slice(16)));
    await accessible(ada, 'keys');
  });

  it('rotates with a grace, cuts it short, and revokes for good', async () => {
    await ada.goto(`${product.url}/developer`);
    const old = await mint(ada, 'turns');
    await ada.getByRole('button', { name: 'I have copied it' }).click();
    await ada.getByRole('link', { name: 'turns' }).click();
    await ada.getByRole('button', { name: 'Rotate' }).click();
    await ada.getByRole('dialog').getByRole('button', { name: 'Rotate' }).click();
    const fresh = (await ada.getByLabel('Secret key', { exact: true }).textContent()) ?? '';
    await ada.getByRole('button', { name: 'I have copied it' }).click();
    const status = async (key: string) => (await product.call('/whoami', key)).status;
    assert.deepEqual([await status(old), await status(fresh)], [200, 200]);
    assert.equal((await fetch(`${product.url}/api/v1/agents`, { method: 'POST', headers: { authorization: `Bearer ${fresh}` } })).status, 403);
    await ada.getByText('agents:write would have been enough').waitFor();
    // One call with the old secret since the rotation, and it says so.
    await ada.getByText('Still used: 1 call since the rotation from 1 address').waitFor();
    await ada.getByRole('region', { name: 'Who still uses the old secret' }).getByRole('cell', { name: '127.0.0.1' }).waitFor();
    await accessible(ada, 'a key in its grace');
    await ada.getByRole('button', { name: 'End it now' }).click();
    await accessible(ada, 'ending a secret');
    await ada.getByRole('dialog').getByRole('button', { name: 'End it now' }).click();
    await ada.getByText(/The old secret/).waitFor({ state: 'detached' });
    assert.deepEqual([await status(old), await status(fresh)], [401, 200]);
    await ada.getByRole('button', { name: 'Revoke' }).click();
    const revoke = ada.getByRole('button', { name: 'Revoke for good' });
    assert.ok(await revoke.isDisabled());
    await accessible(ada, 'revoking');
    await ada.getByLabel('Type turns to go on').fill('turns');
    await revoke.click();
    await ada.getByText(/The one node confirmed within \d+ ms/).waitFor();
    assert.equal(((await (await product.call('/whoami', fresh)).json()) as { code: string }).code, 'credential_revoked');
  });

  it('lets an owner make a way back in for a member who lost their password', async () => {
    await ada.goto(`${product.url}/members`);
    await ada.getByRole('button', { name: 'Invite somebody' }).click();
    await ada.getByLabel('E-mail').fill('lost@alpha.example');
    await ada.getByRole('button', { name: 'Invite', exact: true }).click();
    const invite = (await ada.getByLabel('Invite link', { exact: true }).textContent()) ?? '';
    await ada.getByRole('button', { name: 'I have copied it' }).click();
    await ada.getByText(/invited by Ada, ends/).waitFor();
    const { page: lost, wrong: lostWrong, context } = await visit(browser);
    await lost.goto(invite);
    await lost.getByText('Ada invites lost@alpha.example to Alpha as developer.').waitFor();
    await lost.getByLabel('Your name').fill('Linus');
    await lost.getByLabel('Choose a password').fill('a-password-that-gets-lost-31');
    await lost.getByRole('button', { name: 'Join' }).click();
    await lost.getByRole('heading', { name: 'Developer' }).waitFor();

    await ada.reload();
    await ada.getByRole('row', { name: /Linus/ }).getByRole('button', { name: 'Recovery link' }).click();
    await ada.getByRole('button', { name: 'Make the link' }).click();
    await accessible(ada, 'a recovery link');
    const link = (await ada.getByLabel('Recovery link', { exact: true }).textContent()) ?? '';
    await ada.getByRole('button', { name: 'I have copied it' }).click();
    assert.equal(await ada.getByRole('row', { name: /\(you\)/ }).getByRole('button', { name: 'Recovery link' }).count(), 0);

    // The sign-in page says whom to ask; the link sets a new password, once, and ends what was open.
    const { page: fresh, wrong: freshWrong, context: other } = await visit(browser);
    await fresh.goto(`${product.url}/signin`);
    await fresh.getByText(/Forgot your password\? Ask an owner/).waitFor();
    await fresh.goto(link);
    await fresh.waitForFunction(() => location.hash === '');
    await accessible(fresh, 'recovery');
    await fresh.getByLabel('New password').fill('passwordpassword');
    await fresh.getByRole('button', { name: 'Set the password' }).click();
    await fresh.locator('.field', { has: fresh.getByLabel('New password') }).getByText(/too easy to guess/).waitFor();
    await fresh.getByLabel('New password').fill('copper-lantern-vivid-19');
    await fresh.getByRole('button', { name: 'Set the password' }).click();
    await fresh.getByRole('heading', { name: 'Developer' }).waitFor();
    const status = await lost.evaluate(async () => (await fetch('/api/v1/auth/session')).status);
    assert.equal(status, 401);
    await fresh.goto(`${product.url}/`);
    await fresh.goto(link);
    await fresh.getByLabel('New password').fill('copper-lantern-vivid-20');
    await fresh.getByRole('button', { name: 'Set the password' }).click();
    await fresh.getByText(/This recovery link does not work/).waitFor();
    assert.deepEqual([...lostWrong, ...freshWrong], []);
    await context.close();
    await other.close();
  });

  it('shows a developer what the role may, and nothing more', async () => {
    await ada.goto(`${product.url}/members`);
    await ada.getByRole('button', { name: 'Invite somebody' }).click();
    await ada.getByLabel('E-mail').fill('dev@alpha.example');
    await ada.getByRole('button', { name: 'Invite', exact: true }).click();
    const link = (await ada.getByLabel('Invite link', { exact: true }).textContent()) ?? '';
    await ada.getByRole('button', { name: 'I have copied it' }).click();
    const { page: dev, wrong: devWrong, context } = await visit(browser);
    await dev.goto(link);
    await accessible(dev, 'an invite');
    await dev.getByLabel('Your name').fill('Grace');
    await dev.getByLabel('Choose a password').fill(PASSWORD);
    await dev.getByRole('button', { name: 'Join' }).click();
    await dev.getByRole('heading', { name: 'Developer' }).waitFor();
    assert.equal(await dev.getByRole('navigation').getByRole('link', { name: 'Members' }).count(), 0);
    await dev.getByRole('button', { name: 'Mint a key' }).click();
    assert.ok(await dev.getByRole('checkbox', { name: /^billing:write / }).isDisabled());
    assert.ok(await dev.getByRole('checkbox', { name: /^agents:write / }).isEnabled());
    await accessible(dev, 'minting');
    assert.deepEqual(devWrong, []);
    await context.close();
    await ada.reload();
    await ada.getByRole('cell', { name: 'Grace' }).waitFor();
    await accessible(ada, 'members');
  });

  it('keeps two organizations in two browsers apart', async () => {
    const { page: bob, wrong: bobWrong, context } = await visit(browser, 'dark');
    await bob.goto(`${product.url}/signup`);
    await accessible(bob, 'sign-up');
    await bob.getByLabel('Organization').fill('Beta');
    await bob.getByLabel('Your name').fill('Bob');
    await bob.getByLabel('E-mail').fill('bob@beta.example');
    await bob.getByLabel('Password').fill(PASSWORD);
    await bob.getByRole('button', { name: 'Sign up' }).click();
    await bob.getByText('No keys yet').waitFor();
    // A link of the other organization leads to nothing.
    await ada.goto(`${product.url}/developer`);
    await ada.getByRole('link', { name: 'first' }).click();
    await ada.getByRole('heading', { name: 'first' }).waitFor();
    await bob.goto(ada.url());
    await bob.getByRole('heading', { name: 'No such key' }).waitFor();
    await accessible(bob, 'a key of nobody here');
    assert.deepEqual(bobWrong, []);
    await context.close();
  });

  it('says what is not there, and what broke, and keeps the navigation', async () => {
    const stays = (page: Page) => page.getByRole('navigation').getByRole('link', { name: 'Agents' }).waitFor();
    const missing = ['/developer/key_01938f2c5a007b3e8d41000000000009', '/agents/nonsense', '/conversations/conv_01938f2c5a007b3e8d41000000000009'];
    for (const [path, heading] of [['/nothing/at/all', 'Page not found'], ['/errors/unknown', 'Page not found'], ...missing.map((it) => [it, /^No such /] as const)] as const) {
      const answer = await ada.goto(`${product.url}${path}`);
      assert.equal(answer?.status(), heading === 'Page not found' ? 404 : 200, path);
      await ada.getByRole('heading', { name: heading }).waitFor();
      await stays(ada);
      await accessible(ada, path);
    }
    // A page that throws while it is drawn: an answer of another shape than the contract's.
    await ada.route('**/api/v1/members?*', (route) => route.fulfill({ json: { success: true, data: [null], pagination: { limit: 100, nextCursor: null } } }), { times: 1 });
    await ada.goto(`${product.url}/members`);
    await ada.getByRole('heading', { name: 'This page could not be shown' }).waitFor();
    await stays(ada);
    await accessible(ada, 'a broken page');
    assert.ok(wrong.splice(0).every((it) => it.includes('null')), 'only the error that was made');
    await ada.getByRole('navigation').getByRole('link', { name: 'Agents' }).click();
    await ada.getByRole('heading', { name: 'Agents' }).waitFor();
    // Who is not signed in finds the way in, and no endless redirect.
    const { page: nobody, context } = await visit(browser);
    await nobody.goto(`${product.url}/nothing`);
    await nobody.getByRole('heading', { name: 'Page not found' }).waitFor();
    await nobody.getByRole('link', { name: 'Go to the Developer page' }).click();
    await nobody.getByRole('button', { name: 'Sign in' }).waitFor();
    await context.close();
  });

  it('publishes an agent and mints a key for a page', async () => {
    await ada.goto(`${product.url}/agents`);
    await ada.getByRole('button', { name: 'New agent' }).click();
    await ada.getByLabel('Name').fill('Front desk');
    await ada.getByRole('button', { name: 'Make it' }).click();
    await ada.getByLabel('Greeting').fill('Good day!');
    await ada.getByRole('button', { name: 'Save the draft' }).click();
    await ada.getByRole('heading', { name: 'Draft, version 2' }).waitFor();
    await ada.getByRole('button', { name: 'Publish the draft' }).click();
    await ada.getByText(/channels serve version 2/).waitFor();
    await ada.getByRole('button', { name: 'New key' }).click();
    const dialog = ada.getByRole('dialog');
    await dialog.getByLabel('Name').fill('Web site');
    await dialog.getByLabel('Origins').fill('https://*.example.com');
    await dialog.getByText(/Wildcards are not possible/).waitFor();
    assert.ok(await dialog.getByRole('button', { name: 'Mint' }).isDisabled());
    await dialog.getByLabel('Origins').fill('https://shop.example');
    await dialog.getByRole('button', { name: 'Mint' }).click();
    const pk = (await ada.getByLabel('Publishable key', { exact: true }).textContent()) ?? '';
    await ada.getByRole('button', { name: 'Close' }).click();
    await ada.getByLabel('Title').fill('Ask us');
    await ada.getByRole('button', { name: 'Save the widget' }).click();
    await ada.getByText('Saved', { exact: true }).waitFor();
    const answer = await fetch(`${product.url}/api/v1/widget/bootstrap`, { headers: { authorization: `Bearer ${pk}`, origin: 'https://shop.example' } });
    const { data } = (await answer.json()) as { data: { agentMeta: { greeting: string }; copy: { title: string } } };
    assert.deepEqual([data.agentMeta.greeting, data.copy.title], ['Good day!', 'Ask us']);
    await accessible(ada, 'an agent');
    // A site moves: the key stays, its origins change, and that is what is served from then on.
    await ada.getByRole('button', { name: 'Change', exact: true }).click();
    await dialog.getByLabel('Origins').fill('https://shop.example\nhttps://store.example/');
    await dialog.getByRole('alert').waitFor();
    await accessible(ada, 'a key that is changed');
    await dialog.getByLabel('Origins').fill('https://store.example');
    await dialog.getByRole('button', { name: 'Save' }).click();
    await ada.getByRole('cell', { name: 'https://store.example' }).waitFor();
    const from = async (origin: string) => (await fetch(`${product.url}/api/v1/widget/bootstrap`, { headers: { authorization: `Bearer ${pk}`, origin } })).status;
    assert.deepEqual([await from('https://shop.example'), await from('https://store.example')], [403, 200]);
    await ada.getByLabel('Greeting').fill('Good evening!');
    await ada.getByRole('button', { name: 'Save the draft' }).click();
    await ada.getByRole('heading', { name: 'Draft, version 3' }).waitFor();
    await ada.getByRole('button', { name: 'Compare' }).click();
    await ada.getByRole('row', { name: /greeting Good day! Good evening!/ }).waitFor();
    await accessible(ada, 'a comparison');
    await ada.keyboard.press('Escape');
    // The preview is the widget itself, on the draft; it follows the form before anything is saved.
    await until(ada, 'Good evening!');
    await ada.getByLabel('Title').fill('Ask away');
    await until(ada, 'Ask away', 'dialog');
    await ada.getByLabel('Open by itself').focus();
    await ada.keyboard.press('Tab'); // Save
    await ada.keyboard.press('Tab'); // Close
    await ada.keyboard.press('Tab'); // The conversation
    await ada.keyboard.press('Tab'); // The message
    await say(ada, 'When do you open?');
    await until(ada, 'ask the people behind this site');
  });

  it('gives an agent knowledge, and hears it answer from it', async () => {
    await ada.goto(`${product.url}/agents`);
    await ada.getByRole('link', { name: 'Front desk' }).click();
    await ada.getByText('It knows nothing yet').waitFor();
    await ada.getByRole('button', { name: 'Add a source' }).click();
    await accessible(ada, 'adding a source');
    const dialog = ada.getByRole('dialog', { name: 'Add a source' });
    await dialog.getByLabel('Label').fill('Opening hours');
    await dialog.getByLabel('Text').fill('We are open from nine to five, Monday to Friday. On Sundays the shop is closed.');
    await dialog.getByRole('button', { name: 'Add', exact: true }).click();
    await ada.getByRole('row', { name: /Opening hours text indexed/ }).waitFor();
    await ada.getByRole('button', { name: 'Add a source' }).click();
    await dialog.getByLabel('Kind').selectOption('File');
    await dialog.getByLabel('Label').fill('Price list');
    await dialog.getByLabel('File').setInputFiles({ name: 'prices.md', mimeType: 'text/markdown', buffer: Buffer.from('# Prices\n\nA haircut costs thirty dollars. Colouring costs eighty dollars.') });
    await accessible(ada, 'a file as a source');
    await dialog.getByRole('button', { name: 'Add', exact: true }).click();
    await ada.getByRole('row', { name: /Price list file indexed/ }).waitFor();
    await ada.getByLabel('What would it find?').fill('When do you open?');
    await ada.getByRole('button', { name: 'Look' }).click();
    await ada.getByRole('region', { name: 'Passages' }).getByText(/nine to five/).waitFor();
    await accessible(ada, 'knowledge');
    await ada.getByRole('button', { name: 'New skill' }).click();
    const skill = ada.getByRole('dialog', { name: 'New skill' });
    await skill.getByLabel('Kind').selectOption('builtin');
    await skill.getByLabel('Name').fill('Take a message');
    await skill.getByLabel('Description').fill('Takes a message for the people behind the site.');
    await skill.getByLabel('Settings').fill('{"action": ');
    await skill.getByText('is not a JSON object').waitFor();
    await skill.getByLabel('Settings').fill('{"action": "repeat"}');
    await accessible(ada, 'a new skill');
    await skill.getByRole('button', { name: 'Make it' }).click();
    await ada.getByRole('cell', { name: '/take_a_message' }).waitFor();
    const simulator = ada.getByRole('region', { name: 'Simulator' });
    await simulator.getByLabel('Message').fill('Are you open on Sundays?');
    await simulator.getByRole('button', { name: 'Say it' }).click();
    await simulator.getByRole('listitem').filter({ hasText: 'agent message' }).getByText(/closed/).waitFor();
    // More than there is room for: what is said last can be seen.
    for (let times = 0; times < 3; times += 1) {
      await simulator.getByLabel('Message').fill('And on Mondays?');
      await simulator.getByRole('button', { name: 'Say it' }).click();
      await simulator.getByRole('listitem').filter({ hasText: 'agent message' }).nth(times + 1).waitFor();
    }
    const below = await simulator.getByRole('list').evaluate((it) => [it.scrollHeight > it.clientHeight, it.scrollHeight - it.clientHeight - it.scrollTop < 2]);
    assert.deepEqual(below, [true, true]);
    await accessible(ada, 'a simulation');
    await ada.getByLabel('Open by itself').focus();
    for (let presses = 0; presses < 4; presses += 1) await ada.keyboard.press('Tab'); // Save, close, the conversation, the message.
    await say(ada, 'When are you open?');
    await until(ada, 'When are you open?', 'StaticText');
    // Once in the passages above, and once as the answer.
    await eventually(() => until(ada, 'nine to five', 'StaticText'), (said) => said.split('nine to five').length > 2, 'no answer');
  });

  it('fills the wallet, and buys, assigns and releases a number', async () => {
    await ada.goto(`${product.url}/wallet`);
    await ada.getByText('Payments are a sandbox here').waitFor();
    await ada.getByRole('button', { name: 'Top up' }).click();
    await accessible(ada, 'topping up');
    await ada.getByLabel('Amount').fill('25');
    await ada.getByRole('button', { name: 'Pay' }).click();
    await ada.getByText('$25.00 are in the wallet.').waitFor();
    await ada.getByRole('dialog').getByRole('button', { name: 'Close' }).last().click();
    await ada.getByRole('region', { name: 'Balance' }).getByText('$25.00').waitFor();
    await accessible(ada, 'the wallet');
    await ada.goto(`${product.url}/numbers`);
    await ada.getByText('No number yet').waitFor();
    await ada.getByRole('button', { name: 'Find a number' }).click();
    await ada.getByLabel('Area code').fill('202');
    await ada.getByRole('button', { name: 'Search' }).click();
    await ada.getByRole('button', { name: /^Buy/ }).first().waitFor();
    await accessible(ada, 'numbers to buy');
    await ada.getByRole('button', { name: /^Buy/ }).first().click();
    await accessible(ada, 'buying a number');
    await ada.getByRole('button', { name: /^Buy for/ }).click();
    const bought = (await ada.getByText(/is yours/).textContent())?.split(' ')[0] ?? '';
    await ada.getByRole('dialog').getByRole('button', { name: 'Close' }).last().click();
    await ada.getByLabel(`Agent of ${bought}`).selectOption('Front desk');
    await ada.reload();
    await ada.getByLabel(`Agent of ${bought}`).locator('option', { hasText: 'Front desk' }).waitFor({ state: 'attached' });
    assert.equal(await ada.getByLabel(`Agent of ${bought}`).locator('option:checked').textContent(), 'Front desk');
    await accessible(ada, 'numbers');
    await ada.getByRole('button', { name: 'Release' }).click();
    await ada.getByLabel(`Type ${bought} to go on`).fill(bought);
    await ada.getByRole('dialog').getByRole('button', { name: 'Release' }).click();
    await ada.getByText('No number yet').waitFor();
    await ada.goto(`${product.url}/wallet`);
    await ada.getByRole('region', { name: 'Table of charges' }).getByText(bought).first().waitFor();
  });

  it('shows what each call needs, with a key in view', async () => {
    await ada.goto(`${product.url}/reference`);
    const row = (name: string) => ada.getByRole('row', { name: new RegExp(`\\b${name}\\b`) });
    await row('createAgent').getByText('allowed').waitFor();
    const caller = ada.getByLabel('As', { exact: true });
    const label = await caller.locator('option', { hasText: /^first / }).textContent();
    await caller.selectOption({ label: label ?? '' });
    await row('createAgent').getByText('lacks agents:write').waitFor();
    await row('listAgents').getByText('allowed').waitFor();
    await row('mintApiKey').getByText('takes a session').waitFor();
    await row('listWebhooks').getByText('reserved').waitFor();
    await accessible(ada, 'the reference');
    assert.equal(await ada.getByRole('link', { name: /Try it.*createAgent/ }).getAttribute('href'), '/docs#/agents/createAgent');
    const { page: docs, wrong: docsWrong, context } = await visit(browser);
    await docs.goto(`${product.url}/docs#/agents/createAgent`);
    await docs.getByRole('button', { name: 'Try it out' }).waitFor();
    assert.deepEqual(docsWrong, []);
    await context.close();
  });

  it('shows the audit log whole, and sessions to end', async () => {
    await ada.goto(`${product.url}/audit`);
    await ada.getByRole('button', { name: 'Check the chain' }).click();
    await ada.getByText(/The chain is intact/).waitFor();
    await ada.getByLabel('Action').selectOption('api_key.revoked');
    await ada.getByRole('cell', { name: 'turns' }).waitFor();
    await ada.getByLabel('To', { exact: true }).fill('2020-01-01');
    await ada.getByText('No event fits').waitFor();
    await ada.getByLabel('To', { exact: true }).fill('');
    const download = ada.waitForEvent('download');
    await ada.getByRole('button', { name: 'Export JSON lines' }).click();
    const lines = readFileSync(await (await download).path(), 'utf8').trimEnd().split('\n').map((it) => JSON.parse(it) as { action: string });
    assert.deepEqual(lines.map((it) => it.action), ['api_key.revoked']);
    await accessible(ada, 'the audit log');
    const { page: second, context } = await visit(browser);
    await second.goto(`${product.url}/signin`);
    await accessible(second, 'sign-in');
    await second.getByLabel('E-mail').fill('ada@alpha.example');
    await second.getByLabel('Password').fill(PASSWORD);
    await second.getByRole('button', { name: 'Sign in' }).click();
    await second.getByRole('heading', { name: 'Developer' }).waitFor();
    await ada.goto(`${product.url}/sessions`);
    await accessible(ada, 'sessions');
    await ada.getByRole('button', { name: 'End all others' }).click();
    await ada.getByRole('button', { name: /^End \d+ session/ }).click();
    await ada.getByRole('button', { name: 'End all others' }).waitFor({ state: 'detached' });
    // Whoever was thrown out signs in and is back where they were.
    await second.getByRole('navigation').getByRole('link', { name: 'Agents' }).click();
    await second.getByText(/Your session has ended/).waitFor();
    await second.getByLabel('E-mail').fill('ada@alpha.example');
    await second.getByLabel('Password').fill(PASSWORD);
    await second.getByRole('button', { name: 'Sign in' }).click();
    await second.getByRole('heading', { name: 'Agents' }).waitFor();
    await context.close();
  });

  // Rows: SE-37. Nothing is exported that a spreadsheet would open.
  it('shows what people wrote as text, and shows nothing inside a page of somebody else’s', async () => {
    const markup = '<img src=x onerror="document.title=1">';
    await ada.goto(`${product.url}/agents`);
    const made = await ada.evaluate(async (name) => {
      const answer = await fetch('/api/v1/agents', { method: 'POST', headers: { 'content-type': 'application/json' }, body: JSON.stringify({ name, greeting: name }) });
      return answer.status;
    }, markup);
    assert.equal(made, 201);
    for (const page of ['/agents', '/audit']) {
      await ada.goto(`${product.url}${page}`);
      await ada.getByText(markup).first().waitFor();
      assert.equal(await ada.locator('img[src="x"]').count(), 0);
    }
    await ada.goto(`${product.url}/agents`);
    await ada.getByText(markup).first().click();
    await ada.getByRole('heading', { name: markup }).waitFor();
    assert.equal(await ada.locator('img[src="x"]').count(), 0);
    assert.notEqual(await ada.title(), '1');

    const host = createServer((_, answer) => answer.writeHead(200, { 'content-type': 'text/html' }).end(`<title>Host</title><iframe src="${product.url}/developer"></iframe>`));
    await new Promise<void>((done) => host.listen(0, '127.0.0.1', done));
    const framing = await ada.context().newPage();
    const refused = framing.waitForEvent('console', (it) => it.text().includes("frame-ancestors 'none'"));
    await framing.goto(`http://localhost:${(host.address() as AddressInfo).port}`);
    await refused;
    assert.deepEqual(framing.frames().map((it) => new URL(it.url()).protocol), ['http:', 'chrome-error:']);
    await framing.close();
    host.close();
  });

  it('runs nothing but its own files, and little of it', async () => {
    const answer = await fetch(`${product.url}/developer`);
    const policy = answer.headers.get('content-security-policy') ?? '';
    assert.ok(policy.includes("frame-ancestors 'none'") && !policy.includes('unsafe'), policy);
    assert.equal(answer.headers.get('referrer-policy'), 'no-referrer');
    const folder = join(import.meta.dirname, '../dist/assets');
    const scripts = readdirSync(folder).filter((it) => it.endsWith('.js.gz'));
    const packed = scripts.map((it) => readFileSync(join(folder, it)));
    assert.ok(packed.reduce((sum, it) => sum + it.length, 0) <= 200 * 1024);
    assert.ok(packed.every((it) => gunzipSync(it).length > 0));
    const asset = await fetch(`${product.url}/assets/${scripts[0]?.replace('.gz', '')}`);
    assert.match(asset.headers.get('cache-control') ?? '', /immutable/);
    assert.deepEqual(wrong, []);
  });
});
