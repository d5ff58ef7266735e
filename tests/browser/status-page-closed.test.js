// The page's own test when the firewall in front of the server lets no packet to the relay ports, and when the server
// permits no address of the browser's as a peer.

import assert from 'node:assert/strict';
import { execFileSync } from 'node:child_process';
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { test } from 'node:test';

import { lacking, Lab, SERVER } from '../apps/lib/lab.js';
import { launchChromium } from './lib/chromium.js';
import { Turnwell } from './lib/turnwell.js';

// Candidates are told as addresses, not as names of multicast DNS, which the server could not resolve either.
const FLAGS = ['--disable-features=WebRtcHideLocalIpsWithMdns'];

const LIMIT = { timeout: 150_000, skip: lacking() };
// Loopback too: this browser tells it, for its flags.
const DENY_ALL = `
[peers]
deny = ["10.77.0.101/32", "127.0.0.0/8"]
`;

/** `config` is what the server starts from; `overUdp` presses "Test" and returns the result of TURN over UDP. */
async function open(t, config = '') {
  const lab = await Lab.start({ clients: ['a'] });
  t.after(() => lab.stop());
  const inNamespace = (name, command, input) => {
    const [enter, ...args] = [...lab.through(name), ...command.split(' ')];
    execFileSync(enter, args, { input });
  };
  // A second address, as a browser's in its LAN: the server refuses it.
  inNamespace('a', 'ip addr add 100.64.0.7/24 dev wan');

  const folder = mkdtempSync(join(tmpdir(), 'status-page-'));
  t.after(() => rmSync(folder, { recursive: true }));
  const file = join(folder, 'turnwell.toml');
  writeFileSync(file, config);
  // Within one worker what one relayed address sends to another meets no firewall; between two it does.
  const flags = ['--workers', '1', '--config', file];
  const server = await Turnwell.start({ listen: [`${SERVER}:0`], api: `${SERVER}:0`, relay: [SERVER], flags, through: lab.through('server') });
  t.after(() => server.stop());
  const browser = await launchChromium({ through: lab.through('a'), flags: [...FLAGS, `--unsafely-treat-insecure-origin-as-secure=${server.api}`] });
  t.after(() => browser.close());
  // Who may use the microphone tells all addresses, not the default route's alone.
  const page = await (await browser.newContext({ permissions: ['microphone'] })).newPage();
  await page.goto(server.api);
  // not on loopback: the page asks for the key
  await page.fill('#key', server.apiKey);
  await page.click('#login button');
  await page.waitForSelector('#live:not([hidden])');

  const refused = async () => {
    const metrics = await page.evaluate(() => figures().then((all) => [...all.permissions_denied_total]));
    return metrics.reduce((sum, [, count]) => sum + count, 0);
  };
  const overUdp = async () => {
    const before = await refused();
    await page.click('#test', { timeout: 90_000 }); // once the test before has ended
    await page.waitForSelector('.result:not(.busy)', { timeout: 60_000 });
    const [kind, text] = await page.$eval('.result', (first) => [first.className, first.textContent]);
    assert.ok(await refused() > before, 'an address of the browser was refused');
    return { kind, text };
  };
  return { inNamespace, overUdp };
}

test('closed relay ports are red and named, open ones green; one refused address of several is no cause', LIMIT, async (t) => {
  const { inNamespace, overUdp } = await open(t);
  const works = await overUdp();
  assert.match(works.kind, /good/, works.text);

  inNamespace('server', 'nft -f -', `
    table inet wall {
      chain in {
        type filter hook input priority filter
        udp dport 20000-29999 drop
      }
    }
  `);
  const closed = await overUdp();
  assert.match(closed.kind, /bad/, closed.text);
  assert.match(closed.text, /open the relay ports/);
  assert.doesNotMatch(closed.text, /peers\.deny/);
  assert.match(closed.text, /Between two relayed addresses data arrives/);
});

test('a browser none of whose addresses may be a peer is told so', LIMIT, async (t) => {
  const { overUdp } = await open(t, DENY_ALL);
  const denied = await overUdp();
  assert.match(denied.kind, /warn/, denied.text);
  assert.match(denied.text, /permitted none of this browser's addresses as a peer/);
  assert.match(denied.text, /Between two relayed addresses data arrives/);
});
