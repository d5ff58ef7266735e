// The page that the API serves at `/`, in a real browser: its charts during a call, and its own test of the server.

import assert from 'node:assert/strict';
import { createHmac } from 'node:crypto';
import { after, before, describe, test } from 'node:test';
import { fileURLToPath } from 'node:url';

import { App } from './lib/app.js';
import { launchChromium } from './lib/chromium.js';
import { Turnwell } from './lib/turnwell.js';

const LIMIT = { timeout: 90_000 };
// TURNWELL_SCREENSHOTS=1 renews the pictures in docs/.
const picture = (page, name, options) =>
  process.env.TURNWELL_SCREENSHOTS && page.screenshot({ path: fileURLToPath(new URL(`../../docs/${name}`, import.meta.url)), ...options });

describe('the page of the API', () => {
  let server, browser, page;

  before(async () => {
    server = await Turnwell.start();
    browser = await launchChromium({ trusts: server.certificate });
    page = await browser.newPage({ viewport: { width: 1200, height: 1000 } });
    page.on('pageerror', (error) => console.log(`page: ${error}`));
    await page.goto(server.api);
    await page.waitForSelector('#live:not([hidden])');
  }, LIMIT);

  after(async () => {
    await browser?.close();
    await server?.stop();
  }, LIMIT);

  /** Presses "Test" with other credentials than minted ones, if there are any; returns kind and text of each result. */
  async function results({ user = '', password = '' } = {}) {
    await page.evaluate(([name, secret]) => {
      document.getElementById('other-user').value = name;
      document.getElementById('other-password').value = secret;
      document.getElementById('results').dataset.state = '';
    }, [user, password]);
    await page.click('#test');
    await page.waitForSelector('#results[data-state=done]', { timeout: 80_000 });
    return page.$$eval('.result', (all) => all.map((one) => ({ kind: one.className.split(' ')[1], text: one.textContent })));
  }

  test('charts and sessions move while a call runs', LIMIT, async () => {
    const app = await App.start(async () => {
      const { iceServers } = await server.mint({ user: 'caller', transports: ['udp'] });
      return iceServers.filter((entry) => entry.credential);
    });
    try {
      const caller = await browser.newPage();
      await caller.goto(app.origin);
      await caller.waitForFunction(() => 'video' in window);
      const call = caller.evaluate(() => window.video(90));
      await page.waitForFunction(() => document.querySelector('#sessions td')?.textContent === 'caller');
      for (const chart of ['allocations', 'packets', 'bits']) {
        await page.waitForFunction((id) => Number(document.getElementById(id).dataset.peak) > 0, `chart-${chart}`);
      }
      await picture(page, 'page.png');
      await call;
      await caller.close();
    } finally {
      app.stop();
    }
  });

  test('each transport turns green', LIMIT, async () => {
    const all = await results();
    assert.equal(all.length, 3, JSON.stringify(all));
    for (const { kind, text } of all) {
      assert.equal(kind, 'good', text);
      assert.match(text, /Relayed address 127\.0\.0\.1:\d+ after \d+ ms; 50 messages there and back/);
    }
    assert.deepEqual(all.map(({ text }) => /(UDP|TCP|TLS):/.exec(text)[1]), ['UDP', 'TCP', 'TLS']);
    await picture(page, 'page-test.png', { fullPage: true });
  });

  const stamp = (seconds) => `${Math.floor(Date.now() / 1000) + seconds}:browser`;
  const sign = (user) => createHmac('sha1', server.secret).update(user).digest('base64');
  const refused = {
    'a wrong secret': [() => ({ user: stamp(60), password: 'wrong' }), /signed with another secret/],
    'an expired credential': [() => ({ user: stamp(-60), password: sign(stamp(-60)) }), /is expired/],
    'an unknown user': [() => ({ user: 'nobody', password: 'x' }), /does not know this user name/],
  };
  for (const [name, [credential, words]] of Object.entries(refused)) {
    test(`${name} is red and named`, LIMIT, async () => {
      for (const { kind, text } of await results(credential())) {
        assert.equal(kind, 'bad', text);
        assert.match(text, words);
      }
    });
  }

  test('a phone in the dark shows it without scrolling sideways', LIMIT, async () => {
    const phone = await browser.newPage({ viewport: { width: 390, height: 800 }, colorScheme: 'dark' });
    await phone.goto(server.api);
    await phone.waitForSelector('#live:not([hidden])');
    assert.ok(await phone.evaluate(() => document.documentElement.scrollWidth <= innerWidth));
    await picture(phone, 'page-phone.png');
    await phone.close();
  });

  test('without the key of `dev` it asks for one, and refuses a wrong one', LIMIT, async () => {
    const stranger = await browser.newPage();
    await stranger.route(server.api + '/', async (route) => {
      const answer = await route.fetch();
      await route.fulfill({ response: answer, body: (await answer.text()).replace(/const DEV_KEY = .*;/, '') });
    });
    // what a proxy in front of the API would see: no caller on this machine
    await stranger.route('**/metrics', (route) => {
      const known = route.request().headers().authorization === `Bearer ${server.apiKey}`;
      return known ? route.continue() : route.fulfill({ status: 401, json: { detail: 'the API key is not known here' } });
    });
    await stranger.goto(server.api);
    await stranger.fill('#key', 'wrong');
    await stranger.click('#login button');
    await stranger.waitForFunction(() => /not known/.test(document.getElementById('login-error').textContent));
    await stranger.fill('#key', server.apiKey);
    await stranger.click('#login button');
    await stranger.waitForSelector('#live:not([hidden])');
    await stranger.close();
  });
});
