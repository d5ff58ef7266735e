// A call between two relay-only peers in a real browser, with credentials fetched the way an app fetches them.
// Each way to reach the server is one row of WAYS; every row runs the same tests.

import assert from 'node:assert/strict';
import { createHmac } from 'node:crypto';
import { after, before, describe, test } from 'node:test';

import { App } from './lib/app.js';
import { launchChromium } from './lib/chromium.js';
import { UdpTap } from './lib/tap.js';
import { Turnwell } from './lib/turnwell.js';

const MEGABYTE = 1024 * 1024;
const FRAMES = 30;
const LIMIT = { timeout: 60_000 };

// `matches` picks the URLs to use; `tap` puts a forwarder in between, where one exists for the transport.
const WAYS = [
  { name: 'turn over UDP', relayProtocol: 'udp', tap: true, matches: (url) => /^turn:.*[?&]transport=udp$/.test(url) },
  { name: 'turn over TCP', relayProtocol: 'tcp', tap: false, matches: (url) => /^turn:.*[?&]transport=tcp$/.test(url) },
  { name: 'turn over TLS', relayProtocol: 'tls', tap: false, matches: (url) => /^turns:.*[?&]transport=tcp$/.test(url) },
];

for (const way of WAYS) {
  describe(way.name, () => {
    let server, browser, app, page, tap;

    before(async () => {
      server = await Turnwell.start();
      tap = way.tap ? await UdpTap.start(server.listen[0]) : undefined;
      app = await App.start(() => iceServers());
      browser = await launchChromium({ trusts: server.certificate });
      page = await browser.newPage();
      page.on('console', (message) => console.log(`page: ${message.text()}`));
      await page.goto(app.origin);
      await page.waitForFunction(() => 'gather' in window);
    }, LIMIT);

    after(async () => {
      await browser?.close();
      app?.stop();
      tap?.stop();
      await server?.stop();
    }, LIMIT);

    // Turnwell's own answer, cut down to this way's URLs and led through the tap.
    async function iceServers(change = (turn) => turn) {
      const minted = await server.mint({ user: 'browser' });
      const turn = minted.iceServers.find((entry) => 'credential' in entry);
      const urls = [turn.urls].flat().filter(way.matches);
      assert.notEqual(urls.length, 0, `no URL for ${way.name} in ${JSON.stringify(turn.urls)}`);
      const through = urls.map((url) => (tap ? url.replace(server.listen[0], tap.address) : url));
      return [change({ ...turn, urls: through })];
    }

    const relayed = { local: 'relay', remote: 'relay', relayProtocol: way.relayProtocol };

    test('one megabyte arrives intact over a data channel', LIMIT, async () => {
      const { sent, received, pairs } = await page.evaluate((length) => window.transfer(length), MEGABYTE);
      assert.equal(received, sent);
      assert.deepEqual(pairs, [relayed, relayed]);
    });

    test(`video decodes ${FRAMES} frames`, LIMIT, async () => {
      const { decoded, size, pairs } = await page.evaluate((frames) => window.video(frames), FRAMES);
      assert.ok(decoded >= FRAMES, `${decoded} frames`);
      assert.deepEqual(size, [320, 240]);
      assert.deepEqual(pairs, [relayed, relayed]);
    });

    test('indications and channels both carry data, both ways', { ...LIMIT, skip: !way.tap }, async () => {
      tap.reset();
      await page.evaluate((length) => window.transfer(length), MEGABYTE);
      for (const [counts, indication] of [[tap.toServer, 'send-indication'], [tap.toClient, 'data-indication']]) {
        assert.ok(counts.get(indication) > 0, `${indication} in ${JSON.stringify([...counts])}`);
        assert.ok(counts.get('channel-data') > 100, `channel-data in ${JSON.stringify([...counts])}`);
      }
    });

    const refused = {
      'a wrong password': (turn) => ({ ...turn, credential: 'wrong' }),
      'an unknown user': (turn) => ({ ...turn, username: 'nobody' }),
      'an expired time stamp': (turn) => {
        const username = `${Math.floor(Date.now() / 1000) - 60}:browser`;
        return { ...turn, username, credential: createHmac('sha1', server.secret).update(username).digest('base64') };
      },
    };
    for (const [name, change] of Object.entries(refused)) {
      test(`${name} is refused with 401 and yields no candidate`, LIMIT, async (t) => {
        app.iceServers = () => iceServers(change);
        t.after(() => (app.iceServers = () => iceServers()));
        const { candidates, errors } = await page.evaluate(() => window.gather());
        assert.deepEqual(candidates, []);
        assert.ok(errors.length > 0 && errors.every(({ errorCode }) => errorCode === 401), JSON.stringify(errors));
      });
    }
  });
}
