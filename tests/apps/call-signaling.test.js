// examples/call-signaling: login, call, answer, hang up; busy, decline, disconnect; sound and pictures every way.

import assert from 'node:assert/strict';
import { after, before, describe, test } from 'node:test';

import { MOST_WAYS, waysOf } from './lib/broker.js';
import { assertPairs, mediaFlows, openPage } from './lib/observe.js';
import { Stage } from './lib/stage.js';

const LIMIT = { timeout: 90_000 };
const ALL_WAYS = { timeout: MOST_WAYS * LIMIT.timeout };

describe('call-signaling', () => {
  let stage, turnwell, broker, app, browser, ann, bob;

  before(async () => {
    stage = await Stage.onLoopback('call-signaling');
    ({ turnwell, broker, app, browser } = stage);
    [ann, bob] = await Promise.all(['Ann', 'Bob'].map(logIn));
  }, LIMIT);

  after(() => stage?.stop(), LIMIT);

  async function logIn(name) {
    const page = await openPage(browser, app.origin);
    await page.getByLabel('Name').fill(name);
    await page.getByRole('button', { name: 'Log in' }).click();
    await page.getByRole('heading', { name: 'Who is here' }).waitFor();
    return page;
  }

  const says = (page, text) => page.getByRole('status').filter({ hasText: text }).waitFor();
  const click = (page, name) => page.getByRole('button', { name, exact: true }).click();

  test('sound and pictures, every way that Turnwell offers; either side hangs up', ALL_WAYS, async (t) => {
    const ways = await waysOf(turnwell);
    for (const [index, way] of ways.entries()) {
      await t.test(way.name, LIMIT, async () => {
        broker.use(way);
        await click(ann, 'Call Bob');
        await bob.getByRole('heading', { name: 'Ann is calling' }).waitFor();
        await click(bob, 'Answer');
        await Promise.all([says(ann, 'In a call with Bob.'), says(bob, 'In a call with Ann.')]);
        for (const now of await Promise.all([mediaFlows(ann), mediaFlows(bob)])) assertPairs(now, way);

        const [first, second, name] = index % 2 ? [bob, ann, 'Bob'] : [ann, bob, 'Ann'];
        await click(first, 'Hang up');
        await Promise.all([says(first, 'You hung up.'), says(second, `${name} hung up.`)]);
        assert.equal(await second.getByRole('region', { name: 'Call' }).isVisible(), false);
      });
    }
  });

  test('each of the two gets a credential of its own', LIMIT, () => {
    const users = broker.minted.map(({ username }) => username.split(':')[1]);
    assert.deepEqual(new Set(users), new Set(['Ann', 'Bob']));
  });

  test('a declined call ends for the caller, by the button and by the Escape key', LIMIT, async () => {
    for (const decline of [() => click(bob, 'Decline'), () => bob.keyboard.press('Escape')]) {
      await click(ann, 'Call Bob');
      await bob.getByRole('heading', { name: 'Ann is calling' }).waitFor();
      await decline();
      await says(ann, 'Bob declined.');
      await bob.getByRole('button', { name: 'Call Ann' }).waitFor();
    }
  });

  test('a third person finds them busy; a lost connection ends the call', LIMIT, async () => {
    const carol = await logIn('Carol');
    await click(carol, 'Call Bob');
    await bob.getByRole('heading', { name: 'Carol is calling' }).waitFor();
    await click(bob, 'Answer');
    await says(bob, 'In a call with Carol.');
    await click(ann, 'Call Bob');
    await says(ann, 'Bob is in another call.');

    await carol.context().close();
    await says(bob, 'Carol lost the connection.');
    await ann.getByRole('button', { name: 'Call Carol' }).waitFor({ state: 'detached' });
  });

  test('a name is taken only once', LIMIT, async () => {
    const page = await openPage(browser, app.origin);
    await page.getByLabel('Name').fill('Ann');
    await page.getByRole('button', { name: 'Log in' }).click();
    await says(page, 'Ann is already here.');
    await page.context().close();
  });

  test('no page had an error', () => {
    assert.deepEqual([...ann.errors, ...bob.errors], []);
  });
});
