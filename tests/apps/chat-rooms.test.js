// examples/chat-rooms: text in order with its history, voices every way, and a voice mesh that people leave and join.

import assert from 'node:assert/strict';
import { after, before, describe, test } from 'node:test';

import { MOST_WAYS, waysOf } from './lib/broker.js';
import { assertPairs, calls, mediaFlows, openPage, until } from './lib/observe.js';
import { Stage } from './lib/stage.js';

const LIMIT = { timeout: 90_000 };
const ALL_WAYS = { timeout: MOST_WAYS * LIMIT.timeout };
const JOIN = 'Join the voice channel';

describe('chat-rooms', () => {
  let stage, turnwell, broker, app, browser;

  before(async () => {
    stage = await Stage.onLoopback('chat-rooms');
    ({ turnwell, broker, app, browser } = stage);
  }, LIMIT);

  after(() => stage?.stop(), LIMIT);

  const click = (page, name) => page.getByRole('button', { name, exact: true }).click();
  const lines = (page) => page.getByRole('log').locator('li > div').allTextContents();
  const voices = (page) => page.getByRole('region', { name: 'Voice' }).getByRole('listitem').allTextContents();
  const sound = (page, count) => mediaFlows(page, { count, video: false });

  async function comeIn(name) {
    const page = await openPage(browser, app.origin);
    await page.getByLabel('Name').fill(name);
    await click(page, 'Come in');
    await page.getByText(`You are ${name}`).waitFor();
    return page;
  }

  async function say(page, text) {
    await page.getByLabel('Message', { exact: true }).fill(text);
    await page.keyboard.press('Enter');
    await page.getByRole('log').getByText(text, { exact: true }).waitFor();
  }

  const leaveAll = (pages) => Promise.all(pages.map(async (page) => {
    assert.deepEqual(page.errors, []);
    await page.context().close();
  }));

  test('voices, every way that Turnwell offers', ALL_WAYS, async (t) => {
    for (const way of await waysOf(turnwell)) {
      await t.test(way.name, LIMIT, async () => {
        broker.use(way);
        const pages = [await comeIn('Ann'), await comeIn('Bob')];
        for (const page of pages) await click(page, JOIN);
        for (const now of await Promise.all(pages.map((page) => sound(page, 1)))) assertPairs(now, way);
        await leaveAll(pages);
      });
    }
  });

  test('four in a mesh, relay only; one leaves, one joins; the text is complete and in order', LIMIT, async () => {
    const way = (await waysOf(turnwell)).find(({ relayProtocol }) => relayProtocol === 'udp');
    broker.use(way);
    const pages = [];
    const expected = [];
    for (const name of ['Ann', 'Bob', 'Carol', 'Dave']) {
      const page = await comeIn(name);
      await click(page, 'Mathematics');
      await page.getByRole('heading', { name: 'Mathematics' }).waitFor();
      await click(page, JOIN);
      pages.push(page);
    }
    for (const now of await Promise.all(pages.map((page) => sound(page, 3)))) assertPairs(now, way);

    const [ann, bob, carol, dave] = pages;
    for (const [page, text] of [[ann, 'one'], [bob, 'two'], [ann, 'three'], [dave, 'four'], [carol, 'five']]) {
      await say(page, text);
      expected.push(text);
    }
    for (const page of pages) {
      const seen = await until(() => lines(page), (now) => now.length === expected.length, 'every message');
      assert.deepEqual(seen, expected);
    }

    await click(bob, 'Leave');
    const three = [ann, carol, dave];
    await Promise.all(three.map((page) => sound(page, 2)));
    await until(() => calls(bob), (now) => now.length === 0, 'Bob hears nobody');
    await until(() => voices(bob), (now) => now.join() === 'Ann,Carol,Dave', 'Bob sees who is left');

    const eve = await comeIn('Eve');
    assert.deepEqual(await lines(eve), [], 'another room, another history');
    await click(eve, 'Mathematics');
    const history = await until(() => lines(eve), (now) => now.length === expected.length, 'the history');
    assert.deepEqual(history, expected);
    await click(eve, JOIN);
    for (const now of await Promise.all([...three, eve].map((page) => sound(page, 3)))) assertPairs(now, way);
    await say(eve, 'six');
    await bob.getByRole('log').getByText('six', { exact: true }).waitFor();

    // A closed window leaves too.
    await dave.context().close();
    await Promise.all([ann, carol, eve].map((page) => sound(page, 2)));
    await leaveAll([ann, bob, carol, eve]);
  });

  test('a seventh voice is refused, and stays in the text', { timeout: 240_000 }, async () => {
    const pages = [];
    for (let index = 1; index <= 7; ++index) {
      const page = await comeIn(`Guest ${index}`);
      await click(page, JOIN);
      await until(() => voices(page), (now) => now.length === Math.min(index, 6), 'in the channel');
      pages.push(page);
    }
    await pages[6].getByText('The voice channel is full').waitFor();
    await until(() => calls(pages[6]), (now) => now.length === 0, 'no call');
    await leaveAll(pages);
  });

  test('nobody gets credentials without a session', LIMIT, async () => {
    const minted = broker.minted.length;
    const answer = await fetch(`${app.origin}/api/ice`);
    assert.equal(answer.status, 401);
    assert.equal(broker.minted.length, minted);
  });
});
