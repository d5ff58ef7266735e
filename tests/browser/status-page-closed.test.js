// The page's own test when the firewall in front of the server lets no packet to the relay ports.

import assert from 'node:assert/strict';
import { execFileSync } from 'node:child_process';
import { test } from 'node:test';

import { lacking, Lab, SERVER } from '../apps/lib/lab.js';
import { launchChromium } from './lib/chromium.js';
import { Turnwell } from './lib/turnwell.js';

// Candidates are told as addresses, not as names of multicast DNS, which the server could not resolve either.
const FLAGS = ['--disable-features=WebRtcHideLocalIpsWithMdns'];

test('closed relay ports are red and named, open ones green', { timeout: 150_000, skip: lacking() }, async (t) => {
  const lab = await Lab.start({ clients: ['a'] });
  t.after(() => lab.stop());
  // Within one worker what one relayed address sends to another meets no firewall; between two it does.
  const server = await Turnwell.start({
    listen: [`${SERVER}:0`], api: `${SERVER}:0`, relay: [SERVER], flags: ['--workers', '1'], through: lab.through('server'),
  });
  t.after(() => server.stop());
  const browser = await launchChromium({ through: lab.through('a'), flags: FLAGS });
  t.after(() => browser.close());
  const page = await browser.newPage();
  await page.goto(server.api);
  // not on loopback: the page asks for the key
  await page.fill('#key', server.apiKey);
  await page.click('#login button');
  await page.waitForSelector('#live:not([hidden])');

  const overUdp = async () => {
    await page.evaluate(() => { document.getElementById('results').dataset.state = ''; });
    await page.click('#test');
    await page.waitForSelector('.result:not(.busy)', { timeout: 60_000 });
    const [kind, text] = await page.$eval('.result', (first) => [first.className, first.textContent]);
    await page.waitForSelector('#results[data-state=done]', { timeout: 100_000 });
    return { kind, text };
  };
  const open = await overUdp();
  assert.match(open.kind, /good/, open.text);

  const [command, ...args] = [...lab.through('server'), 'nft', '-f', '-'];
  execFileSync(command, args, {
    input: `
      table inet wall {
        chain in {
          type filter hook input priority filter
          udp dport 20000-29999 drop
        }
      }
    `,
  });
  const closed = await overUdp();
  assert.match(closed.kind, /bad/, closed.text);
  assert.match(closed.text, /open the relay ports/);
  assert.match(closed.text, /Between two relayed addresses data arrives/);
});
