// How long until a page can be used, and what it loads: npm run measure. The median of nine loads of each, in one run.
import { launch, mintMany, Product, setUp, visit } from './support.ts';

const LOADS = 9;
const browser = await launch();
const product = await Product.start();
const { page } = await visit(browser);

/** From the beginning of the navigation to the moment at which the button is there to be pressed, nothing cached. */
async function measure(what: string, path: string, button: string): Promise<void> {
  const client = await page.context().newCDPSession(page);
  await client.send('Network.setCacheDisabled', { cacheDisabled: true });
  const times: number[] = [];
  let loaded = 0;
  for (let load = 0; load < LOADS; load += 1) {
    await page.goto('about:blank');
    await page.goto(`${product.url}${path}`, { waitUntil: 'commit' });
    await page.getByRole('button', { name: button, exact: true }).click({ trial: true });
    const [now, bytes] = await page.evaluate(() => [performance.now(), performance.getEntriesByType('resource').reduce((sum, it) => sum + (it as PerformanceResourceTiming).encodedBodySize, 0)] as const);
    times.push(now);
    loaded = bytes;
  }
  await client.detach();
  times.sort((a, b) => a - b);
  console.log(`${what}: ${Math.round(times[Math.floor(LOADS / 2)] ?? 0)} ms (${times.map(Math.round).join(' ')}), ${Math.round(loaded / 1024)} KiB`);
}

await setUp(page, product);
await measure('Developer page, no key', '/developer', 'Mint the first key');
await mintMany(page, 1000);
await measure('Developer page, 1,000 keys', '/developer', 'Mint a key');
await page.context().clearCookies();
await measure('Sign-in', '/signin', 'Sign in');
await browser.close();
product.stop();
