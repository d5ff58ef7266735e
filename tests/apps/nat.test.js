// examples/p2p-chat between two clients behind a NAT each: cones are passed with the address that STUN told,
// symmetric NATs only through the relay.

import assert from 'node:assert/strict';
import { after, before, describe, test } from 'node:test';

import { lacking } from './lib/lab.js';
import { calls, openPage, until } from './lib/observe.js';
import { Stage } from './lib/stage.js';

const LIMIT = { timeout: 60_000 };
const CLIENTS = ['a', 'b'];

describe('p2p-chat behind NATs', { skip: lacking() }, () => {
  let stage, lab, app, browsers;

  before(async () => {
    stage = await Stage.inLab('p2p-chat', { clients: CLIENTS, nat: 'cone' });
    ({ lab, app, browsers } = stage);
  }, LIMIT);

  after(() => stage?.stop(), LIMIT);

  async function pairsBehind(kind, accept) {
    for (const client of CLIENTS) lab.setNat(client, kind);
    const first = await openPage(browsers[0], app.origin);
    await first.waitForURL(/#.+/);
    const second = await openPage(browsers[1], first.url());
    const pages = [first, second];
    const ask = async () => (await Promise.all(pages.map(calls))).map(([call]) => call?.state === 'connected' && call.pair);
    await until(ask, (now) => now.every(Boolean), `connected behind ${kind} NATs`);
    const words = pages.map((page, n) => `hello from ${n} behind a ${kind} NAT`);
    // Chromium's controlled side takes up a better pair only once data came in by it; so both keep talking.
    const talk = async () => {
      for (const [n, page] of pages.entries()) {
        await page.getByLabel('Message', { exact: true }).fill(words[n]);
        await page.keyboard.press('Enter');
      }
      return ask();
    };
    const pairs = await until(talk, (now) => now.every((pair) => pair && accept(pair)), `a pair behind ${kind} NATs`);
    for (const [n, page] of pages.entries()) await page.getByRole('log').getByText(words[1 - n]).first().waitFor();
    const candidates = await Promise.all(pages.map((page) => page.locator('#local').textContent()));
    for (const page of pages) await page.context().close();
    return { pairs, candidates };
  }

  test('behind two cone NATs they connect directly, by server-reflexive candidates', LIMIT, async () => {
    const { pairs, candidates } = await pairsBehind('cone', ({ local, remote }) => local === 'srflx' && remote === 'srflx');
    assert.deepEqual(pairs, [{ local: 'srflx', remote: 'srflx' }, { local: 'srflx', remote: 'srflx' }]);
    for (const list of candidates) assert.match(list, /server-reflexive 1/);
  });

  test('behind two symmetric NATs they connect through the relay, and only through it', LIMIT, async () => {
    const throughRelay = ({ local, remote }) => local === 'relay' || remote === 'relay';
    const { pairs, candidates } = await pairsBehind('symmetric', () => true);
    assert.ok(pairs.every(throughRelay), JSON.stringify(pairs));
    for (const list of candidates) assert.match(list, /server-reflexive 1.*relay/);
  });
});
