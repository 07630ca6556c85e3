// The reference page: calls with the member's session, and says what it means to paste a key.
import assert from 'node:assert/strict';
import { after, before, describe, it } from 'node:test';
import type { Browser, Page } from 'playwright-core';
import { Product, launch, setUp, visit } from './support.ts';

let browser: Browser;
let product: Product;

before(async () => {
  browser = await launch();
  product = await Product.start();
});

after(async () => {
  await browser.close();
  product.stop();
});

/** Runs `GET /whoami` on the page; what it answers. */
async function whoami(page: Page): Promise<{ kind: string }> {
  const answered = page.waitForResponse((it) => it.url().endsWith('/api/v1/whoami'));
  await page.locator('#operations-identity-whoami').getByRole('button', { name: 'Execute' }).click();
  return ((await (await answered).json()) as { data: { kind: string } }).data;
}

describe('the reference page', () => {
  it('calls with the session of whoever is signed in, and warns before a key is pasted', async () => {
    const { page, wrong, context } = await visit(browser);
    await page.goto(`${product.url}/docs`);
    await page.getByRole('status').getByRole('link', { name: 'Sign in' }).waitFor();
    await setUp(page, product);
    const minted = await page.evaluate(async () => {
      const body = JSON.stringify({ name: 'tried', scopes: ['agents:read'], env: 'test' });
      const answer = await fetch('/api/v1/api-keys', { method: 'POST', headers: { 'content-type': 'application/json' }, body });
      return ((await answer.json()) as { data: { secret: string } }).data.secret;
    });
    await page.goto(`${product.url}/docs#/identity/whoami`);
    await page.getByText('You are signed in as Ada, owner of Alpha').waitFor();
    const operation = page.locator('#operations-identity-whoami');
    await operation.getByRole('button', { name: 'Try it out' }).click();
    assert.equal((await whoami(page)).kind, 'session');
    // Another tab goes to another organization: nothing is called there under the name of this one.
    const went = (to: 'there' | 'back') =>
      page.evaluate(async (where) => {
        const ask = async (path: string, body: object) => ((await (await fetch(`/api/v1${path}`, { method: 'POST', headers: { 'content-type': 'application/json' }, body: JSON.stringify(body) })).json()) as { data: { id: string; organizations: { id: string; name: string }[] } }).data;
        const id = where === 'there' ? (await ask('/organizations', { name: 'Beta' })).id : ((await (await fetch('/api/v1/auth/session')).json()) as { data: { organizations: { id: string; name: string }[] } }).data.organizations.find((it) => it.name === 'Alpha')?.id;
        await ask('/auth/session/organization', { organizationId: id });
      }, to);
    await went('there');
    const refused = page.waitForResponse((it) => it.url().endsWith('/api/v1/whoami'));
    await operation.getByRole('button', { name: 'Execute' }).click();
    assert.equal((await refused).status(), 409);
    await went('back');
    await page.getByRole('button', { name: 'Authorize' }).first().click();
    const dialog = page.locator('.modal-ux');
    await dialog.getByText('never one that a backend depends on').waitFor();
    await dialog.locator('input').first().fill(minted);
    await dialog.getByRole('button', { name: 'Apply credentials' }).first().click();
    await dialog.getByRole('button', { name: 'Close' }).last().click();
    assert.equal((await whoami(page)).kind, 'secret_key');
    const events = await page.evaluate(async () => {
      const answer = await fetch('/api/v1/audit-events?limit=100');
      return ((await answer.json()) as { data: { action: string }[] }).data.map((it) => it.action);
    });
    assert.ok(events.includes('api_key.minted') && !events.includes('api_key.used_in_browser'), JSON.stringify(events));
    assert.deepEqual(wrong, []);
    await context.close();
  });
});
