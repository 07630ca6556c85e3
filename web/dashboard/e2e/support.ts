// Starts the real binary on a folder of its own, and Chromium in front of it.
import { spawn, type ChildProcess } from 'node:child_process';
import { mkdtempSync, readFileSync, rmSync } from 'node:fs';
import { createServer, type AddressInfo } from 'node:net';
import { tmpdir } from 'node:os';
import { join, resolve } from 'node:path';
import { chromium, type Browser, type BrowserContext, type Page } from 'playwright-core';

export const PASSWORD = 'mountain-kettle-orbit-71';
const binary = process.env.FLOWYTE ?? resolve(import.meta.dirname, '../../../target/debug/flowyte');
const browserPath = process.env.CHROMIUM ?? '/usr/bin/chromium';

function freePort(): Promise<number> {
  return new Promise((done) => {
    const server = createServer().listen(0, '127.0.0.1', () => {
      const { port } = server.address() as AddressInfo;
      server.close(() => done(port));
    });
  });
}

export class Product {
  readonly url: string;
  readonly folder: string;
  private readonly process: ChildProcess;

  private constructor(url: string, folder: string, child: ChildProcess) {
    this.url = url;
    this.folder = folder;
    this.process = child;
  }

  static async start(): Promise<Product> {
    const [port, ops] = [await freePort(), await freePort()];
    const folder = mkdtempSync(join(tmpdir(), 'flowyte-e2e-'));
    const child = spawn(binary, ['serve', '--data', folder, '--listen', `127.0.0.1:${port}`, '--ops-listen', `127.0.0.1:${ops}`, '--signup', 'open', '--log-level', 'error'], {
      stdio: ['ignore', 'ignore', 'inherit'],
    });
    await eventually(() => fetch(`http://127.0.0.1:${ops}/health/ready`).then((it) => it.ok, () => false), (ready) => ready, 'the server does not start');
    return new Product(`http://localhost:${port}`, folder, child);
  }

  get setUpLink(): string {
    return `${this.url}/setup#token=${readFileSync(join(this.folder, 'setup-token'), 'utf8').trim()}`;
  }

  /** Calls the API as a backend does. */
  call(path: string, key: string): Promise<Response> {
    return fetch(`${this.url}/api/v1${path}`, { headers: { authorization: `Bearer ${key}` } });
  }

  stop(): void {
    this.process.kill('SIGKILL');
    rmSync(this.folder, { recursive: true, force: true });
  }
}

export function launch(): Promise<Browser> {
  return chromium.launch({
    executablePath: browserPath,
    args: ['--no-sandbox', '--disable-gpu', '--disable-quic', '--no-first-run', '--disable-background-networking', '--disable-component-update', '--disable-sync'],
  });
}

/** A page that fails the test when anything is wrong in its console: errors, refused scripts, violated policies. */
export async function visit(browser: Browser, scheme: 'light' | 'dark' = 'light'): Promise<{ context: BrowserContext; page: Page; wrong: string[] }> {
  const context = await browser.newContext({ colorScheme: scheme, permissions: ['clipboard-read', 'clipboard-write'] });
  const page = await context.newPage();
  const wrong: string[] = [];
  page.on('pageerror', (error) => wrong.push(String(error)));
  page.on('console', (message) => {
    // A refusal that a page handles shows here as well, as a failed resource.
    if (message.type() === 'error' && !message.text().startsWith('Failed to load resource')) wrong.push(message.text());
  });
  page.setDefaultTimeout(15_000);
  return { context, page, wrong };
}

export async function setUp(page: Page, product: Product): Promise<void> {
  await page.goto(product.setUpLink);
  await page.getByLabel('Organization').fill('Alpha');
  await page.getByLabel('Your name').fill('Ada');
  await page.getByLabel('E-mail').fill('ada@alpha.example');
  await page.getByLabel('Password').fill(PASSWORD);
  await page.getByRole('button', { name: 'Set up' }).click();
  await page.getByRole('heading', { name: 'Developer' }).waitFor();
}

/** Mints a key with one scope; its secret, with the dialog that shows it still open. */
export async function mint(page: Page, name: string, scope = 'agents:read'): Promise<string> {
  await page.getByRole('button', { name: /^Mint (a|the first) key$/ }).first().click();
  await page.getByLabel('Name', { exact: true }).fill(name);
  await page.getByRole('checkbox', { name: new RegExp(`^${scope} `) }).check();
  await page.getByRole('button', { name: 'Mint', exact: true }).click();
  const secret = await page.getByLabel('Secret key', { exact: true }).textContent();
  if (!secret?.startsWith('flowyte_sk_live_')) throw new Error(`no secret: ${secret}`);
  return secret;
}

// The widget's shadow root is closed to pages, so it is met through the keyboard and the accessibility tree, as people meet it.

/** Writes into whatever has the focus, and sends it. */
export async function say(page: Page, text: string): Promise<void> {
  await page.keyboard.type(text);
  await page.keyboard.press('Enter');
}

/** Waits for a part of what the page says, in a `role` if one is named; all that it says then. */
export async function until(page: Page, part: string, role?: string): Promise<string> {
  const client = await page.context().newCDPSession(page);
  const said = async () => {
    const { nodes } = await client.send('Accessibility.getFullAXTree');
    return nodes.filter((node) => role === undefined || node.role?.value === role).map((node) => String(node.name?.value ?? '')).join('\n');
  };
  try {
    return await eventually(said, (now) => now.includes(part), `${part} does not come`);
  } finally {
    await client.detach();
  }
}

/** Waits until the widget can send another message. */
export async function idle(page: Page): Promise<void> {
  const client = await page.context().newCDPSession(page);
  const ready = async () => {
    const { nodes } = await client.send('Accessibility.getFullAXTree');
    const send = nodes.find((node) => node.role?.value === 'button' && node.name?.value === 'Send');
    return send !== undefined && !send.properties?.some((it) => it.name === 'disabled' && it.value.value === true);
  };
  try {
    await eventually(ready, (it) => it, 'the widget stays busy');
  } finally {
    await client.detach();
  }
}

/** Asks again until the answer is good, as long as that may take on a slow machine. */
export async function eventually<T>(ask: () => T | Promise<T>, good: (answer: T) => boolean, otherwise: string): Promise<T> {
  const end = Date.now() + 20_000;
  for (;;) {
    const answer = await ask();
    if (good(answer)) return answer;
    if (Date.now() > end) throw new Error(`${otherwise}: ${JSON.stringify(answer)}`);
    await new Promise((done) => setTimeout(done, 20));
  }
}

/** Many keys at once, as a script of the member would make them. */
export async function mintMany(page: Page, count: number): Promise<void> {
  await page.evaluate(async (most) => {
    for (let n = 0; n < most; n += 1) {
      const answer = await fetch('/api/v1/api-keys', {
        method: 'POST',
        headers: { 'content-type': 'application/json' },
        body: JSON.stringify({ name: `worker ${String(n + 1).padStart(4, '0')}`, scopes: ['agents:read'], env: n % 3 === 0 ? 'test' : 'live' }),
      });
      if (!answer.ok) throw new Error(`key ${n}: ${answer.status}`);
    }
  }, count);
}
