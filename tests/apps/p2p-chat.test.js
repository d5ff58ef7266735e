// examples/p2p-chat on one machine: words in order, files intact, the relay-only switch, the speed beside coturn's.

import assert from 'node:assert/strict';
import { createHash, randomBytes } from 'node:crypto';
import { mkdtemp, readFile, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, before, describe, test } from 'node:test';

import { MOST_WAYS, turnEntry, waysOf } from './lib/broker.js';
import { Coturn } from './lib/coturn.js';
import { assertPairs, calls, openPage, until } from './lib/observe.js';
import { Stage } from './lib/stage.js';

const LIMIT = { timeout: 120_000 };
const ALL_WAYS = { timeout: MOST_WAYS * LIMIT.timeout };
const FILE = randomBytes(20_000_000);
const RUNS = Number(process.env.RUNS ?? 2);

describe('p2p-chat', () => {
  let stage, turnwell, broker, app, browser, folder, file;

  before(async () => {
    folder = await mkdtemp(join(tmpdir(), 'p2p-chat-'));
    file = join(folder, 'noise.bin');
    await writeFile(file, FILE);
    stage = await Stage.onLoopback('p2p-chat');
    ({ turnwell, broker, app, browser } = stage);
  }, LIMIT);

  after(async () => {
    await stage?.stop();
    await rm(folder, { recursive: true, force: true });
  }, LIMIT);

  const connected = (page) => page.getByRole('status').filter({ hasText: 'Connected.' }).waitFor();

  const ofBoth = async (...pages) => (await Promise.all(pages.map(calls))).map(([call]) => call);
  // Right after the connection stands, the browser's report may be one from before it did, or know the other end only
  // as peer-reflexive, whose kind nobody has told yet.
  const isKnown = (call) => call?.pair && call.pair.remote !== 'prflx';
  const pairsOf = (...pages) => until(() => ofBoth(...pages), (now) => now.every(isKnown), 'the pair in use, at both ends');

  async function withTwo(work) {
    const first = await openPage(browser, app.origin);
    await first.waitForURL(/#.+/);
    const second = await openPage(browser, first.url());
    try {
      await Promise.all([connected(first), connected(second)]);
      await work(first, second);
      assert.deepEqual([...first.errors, ...second.errors], []);
    } finally {
      await first.context().close();
      await second.context().close();
    }
  }

  async function say(page, texts) {
    for (const text of texts) {
      await page.getByLabel('Message', { exact: true }).fill(text);
      await page.keyboard.press('Enter');
    }
  }

  /** Sends the file, checks what the other side can save, and returns the megabytes per second that it saw. */
  async function transfer(from, to) {
    await from.getByLabel('Send a file').setInputFiles(file);
    const link = to.getByRole('link', { name: 'noise.bin' });
    const [download] = await Promise.all([to.waitForEvent('download', { timeout: 60_000 }), link.click({ timeout: 60_000 })]);
    const received = await readFile(await download.path());
    assert.equal(sha256(received), sha256(FILE));
    const row = await link.locator('xpath=..').textContent();
    const [, amount, unit] = /([\d.]+) ([kM])B\/s/.exec(row);
    return unit === 'M' ? Number(amount) : Number(amount) / 1000;
  }

  test('words in order both ways, and a 20 MB file, every way that Turnwell offers', ALL_WAYS, async (t) => {
    for (const way of await waysOf(turnwell)) {
      await t.test(way.name, LIMIT, () => {
        broker.use(way);
        return withTwo(async (ann, bob) => {
          const mine = Array.from({ length: 20 }, (_, i) => `from Ann ${i}`);
          const yours = Array.from({ length: 20 }, (_, i) => `from Bob ${i}`);
          await Promise.all([say(ann, mine), say(bob, yours)]);
          for (const page of [ann, bob]) {
            const log = page.getByRole('log').getByRole('listitem');
            const all = await until(() => log.allTextContents(), (lines) => lines.length === 40, '40 lines');
            assert.deepEqual(all.filter((line) => line.startsWith('from Ann')), mine);
            assert.deepEqual(all.filter((line) => line.startsWith('from Bob')), yours);
          }
          assertPairs(await pairsOf(ann, bob), way);
          await transfer(bob, ann);
        });
      });
    }
  });

  test('the switch takes an open connection over to the relay and back', LIMIT, async () => {
    broker.use({ narrow: (answer) => answer });
    await withTwo(async (ann, bob) => {
      const pairs = async () => (await ofBoth(ann, bob)).map((call) => call?.pair);
      const [direct] = await pairsOf(ann, bob);
      assert.notEqual(direct.pair.local, 'relay');
      for (const page of [ann, bob]) await page.getByRole('switch', { name: 'Relay only' }).check();
      await until(pairs, (now) => now.every((pair) => pair?.local === 'relay' && pair.remote === 'relay'), 'both relayed');
      await ann.getByText(/^relayed over UDP: relay ↔ relay$/).waitFor();
      await say(ann, ['still here?']);
      await bob.getByRole('log').getByText('still here?').waitFor();
      for (const page of [ann, bob]) await page.getByRole('switch', { name: 'Relay only' }).uncheck();
      await until(pairs, (now) => now.every((pair) => pair && pair.local !== 'relay' && pair.remote !== 'relay'), 'direct again');
    });
  });

  test('who has the room but not the key can neither read nor be believed', LIMIT, async () => {
    const ann = await openPage(browser, app.origin);
    await ann.waitForURL(/#.+/);
    const eve = await openPage(browser, ann.url().replace(/\.[0-9a-f]{64}$/, `.${'0'.repeat(64)}`));
    await Promise.all([connected(ann), connected(eve)]);
    await say(eve, ['it is me, Bob']);
    await ann.getByRole('status').filter({ hasText: 'not sealed with the key' }).waitFor();
    assert.equal(await ann.getByRole('log').getByRole('listitem').count(), 0);
    await Promise.all([ann.context().close(), eve.context().close()]);
  });

  test('who leaves while a candidate of his is being added makes room for the next one', LIMIT, async () => {
    const ann = await openPage(browser, app.origin);
    await ann.waitForURL(/#.+/);
    await ann.evaluate(() => {
      const { prototype } = window.RTCPeerConnection;
      const { createDataChannel } = prototype;
      prototype.createDataChannel = function (...args) {
        const channel = createDataChannel.apply(this, args);
        channel.addEventListener('close', () => (window.channelClosed = true));
        return channel;
      };
    });
    const bob = await openPage(browser, ann.url());
    await Promise.all([connected(ann), connected(bob)]);

    // As in Chromium: addIceCandidate takes a while, and never ends if the connection is closed meanwhile.
    await ann.evaluate(() => {
      const connection = window.observed.at(-1);
      connection.addIceCandidate = () => new Promise((resolve) => {
        window.goOn = () => connection.signalingState !== 'closed' && resolve();
      });
    });
    await bob.evaluate(() => {
      const candidate = new RTCIceCandidate({ candidate: 'candidate:1 1 udp 1 127.0.0.1 9 typ host', sdpMid: '0' });
      window.observed.at(-1).onicecandidate({ candidate });
    });
    await ann.waitForFunction(() => window.goOn);
    await bob.evaluate(() => window.observed.at(-1).close());
    await ann.waitForFunction(() => window.channelClosed);
    await bob.context().close();
    await ann.evaluate(() => window.goOn());
    await ann.getByRole('status').filter({ hasText: 'The other one left.' }).waitFor();

    const carol = await openPage(browser, ann.url());
    await Promise.all([connected(ann), connected(carol)]);
    await say(carol, ['may I?']);
    await ann.getByRole('log').getByText('may I?').waitFor();
    assert.deepEqual([...ann.errors, ...carol.errors], []);
    await Promise.all([ann.context().close(), carol.context().close()]);
  });

  test(`20 MB relay only, ${RUNS} times through Turnwell and through coturn in turns`, { timeout: RUNS * 2 * 60_000 }, async (t) => {
    const coturn = await Coturn.start(turnwell);
    t.after(() => coturn.stop());
    const way = (await waysOf(turnwell)).find(({ relayProtocol }) => relayProtocol === 'udp');
    const elsewhere = (answer) => {
      const narrowed = way.narrow(answer);
      return { ...narrowed, iceServers: [{ ...turnEntry(narrowed), urls: [`turn:${coturn.address}?transport=udp`] }] };
    };
    const speeds = { Turnwell: [], coturn: [] };
    for (let run = 0; run < RUNS; ++run) {
      for (const [name, narrow] of [['Turnwell', way.narrow], ['coturn', elsewhere]]) {
        broker.use({ narrow });
        await withTwo(async (ann, bob) => {
          assertPairs(await pairsOf(ann, bob), way);
          speeds[name].push(await transfer(ann, bob));
        });
      }
    }
    for (const [name, all] of Object.entries(speeds)) t.diagnostic(`20 MB through ${name}: ${all.join(', ')} MB/s`);
  });
});

function sha256(bytes) {
  return createHash('sha256').update(bytes).digest('hex');
}
