// examples/video-link: muting, camera, names, screen, the end of a call; and a server that is cut off for a while.

import assert from 'node:assert/strict';
import { after, before, describe, test } from 'node:test';

import { MOST_WAYS, waysOf } from './lib/broker.js';
import { lacking } from './lib/lab.js';
import { assertPairs, calls, mediaFlows, openPage, until } from './lib/observe.js';
import { Stage } from './lib/stage.js';

const LIMIT = { timeout: 90_000 };
const ALL_WAYS = { timeout: MOST_WAYS * LIMIT.timeout };
// The longer cut outlasts the page's first question for credentials, and a socket that it opened meanwhile.
const CUTS_MS = [5_000, 15_000];
const CLIENTS = ['a', 'b'];

const click = (page, name) => page.getByRole('button', { name, exact: true }).click();
const says = (page, text) => page.getByRole('status').filter({ hasText: text }).first().waitFor();

async function join(page, name) {
  await page.getByLabel('Your name').fill(name);
  await click(page, 'Join with camera and microphone');
}

async function openTwo([first, second], origin) {
  const ann = await openPage(first, origin);
  const bob = await openPage(second, ann.url());
  await join(ann, 'Ann');
  await says(ann, 'Waiting for the other side.');
  await join(bob, 'Bob');
  await Promise.all([says(ann, 'Connected.'), says(bob, 'Connected.')]);
  return [ann, bob];
}

describe('video-link', () => {
  let stage, turnwell, broker, app, browser;

  before(async () => {
    stage = await Stage.onLoopback('video-link');
    ({ turnwell, broker, app, browser } = stage);
  }, LIMIT);

  after(() => stage?.stop(), LIMIT);

  test('sound and pictures, every way that Turnwell offers; the end is seen by the other side', ALL_WAYS, async (t) => {
    for (const way of await waysOf(turnwell)) {
      await t.test(way.name, LIMIT, async () => {
        broker.use(way);
        const [ann, bob] = await openTwo([browser, browser], app.origin);
        for (const now of await Promise.all([mediaFlows(ann), mediaFlows(bob)])) assertPairs(now, way);
        await click(ann, 'End the call');
        await says(bob, 'The other side ended the call.');
        await until(() => calls(bob), (now) => now.length === 0, 'the connection is closed');
        assert.deepEqual([...ann.errors, ...bob.errors], []);
        await Promise.all([ann.context().close(), bob.context().close()]);
      });
    }
  });

  describe('in a call', () => {
    let ann, bob;

    before(async () => {
      broker.use({ narrow: (answer) => answer });
      [ann, bob] = await openTwo([browser, browser], app.origin);
    }, LIMIT);

    after(() => Promise.all([ann, bob].map((page) => page?.context().close())), LIMIT);

    const direction = (page, kind) => page.evaluate((wanted) => {
      const lines = window.observed.at(-1).getTransceivers().filter(({ receiver }) => receiver.track.kind === wanted);
      return lines.map(({ currentDirection }) => currentDirection).join();
    }, kind);

    for (const [button, kind, words] of [['Microphone', 'audio', 'microphone off'], ['Camera', 'video', 'camera off']]) {
      test(`${button}: off and on again, each told to the other side and negotiated`, LIMIT, async () => {
        await click(ann, button);
        await says(bob, words);
        await until(() => direction(bob, kind), (now) => now === 'sendonly', `${kind} flows only from Bob`);
        await mediaFlows(ann); // the other direction goes on
        await mediaFlows(bob, { [kind]: false });
        await click(ann, button);
        await until(() => direction(bob, kind), (now) => now === 'sendrecv', `${kind} flows both ways`);
        await bob.getByText(words).waitFor({ state: 'detached' });
        await mediaFlows(bob);
      });
    }

    test('both switch the camera at the same moment: the offers cross and both stand', LIMIT, async () => {
      await Promise.all([click(ann, 'Camera'), click(bob, 'Camera')]);
      await until(() => direction(ann, 'video'), (now) => now === 'inactive', 'no pictures');
      await Promise.all([click(ann, 'Camera'), click(bob, 'Camera')]);
      await Promise.all([mediaFlows(ann), mediaFlows(bob)]);
    });

    test('a new name is seen by the other side', LIMIT, async () => {
      await bob.getByLabel('Your name').fill('Robert');
      await bob.getByLabel('Your name').press('Enter');
      await ann.getByRole('figure').getByText('Robert', { exact: true }).waitFor();
    });

    test('the screen instead of the camera, and back', LIMIT, async () => {
      // The sizes that arrive follow the bandwidth; the shape stays, and Ann's own picture is never scaled.
      const shape = (page, label) => page.getByLabel(label, { exact: true }).evaluate((video) => video.videoWidth / video.videoHeight);
      const like = (one) => (other) => Math.abs(one - other) < 0.1;
      const ours = () => shape(ann, 'You');
      const theirs = () => shape(bob, 'The other side');
      const camera = await until(ours, (now) => now > 0, 'the camera');
      await until(theirs, like(camera), 'the camera at the other side');
      await click(ann, 'Share the screen');
      const screen = await until(ours, (now) => now > 0 && !like(camera)(now), 'a picture of another shape');
      await says(bob, 'shares the screen');
      await until(theirs, like(screen), 'the screen at the other side');
      await mediaFlows(bob, { frames: 3 });
      await click(ann, 'Share the screen');
      await until(theirs, like(camera), 'the camera again');
    });

    test('a third one is told that the room is full', LIMIT, async () => {
      const carol = await openPage(browser, ann.url());
      await join(carol, 'Carol');
      await says(carol, 'There are two in this room already.');
      await carol.context().close();
      await mediaFlows(ann);
    });

    test('no page had an error', () => assert.deepEqual([...ann.errors, ...bob.errors], []));
  });
});

describe('video-link while the server is cut off', { skip: lacking() }, () => {
  let stage, lab, app, browsers;

  before(async () => {
    stage = await Stage.inLab('video-link', { clients: CLIENTS });
    ({ lab, app, browsers } = stage);
  }, LIMIT);

  after(() => stage?.stop(), LIMIT);

  for (const cut of CUTS_MS) {
    test(`the call comes back by ICE restart after ${cut / 1000} s, with fresh credentials`, LIMIT, async (t) => {
      const pages = await openTwo(browsers, app.origin);
      await Promise.all(pages.map((page) => mediaFlows(page)));
      const ofPages = async () => (await Promise.all(pages.map(calls))).map(([call]) => call);
      const before = await ofPages();
      const { pair } = before[0];
      assert.ok([pair.local, pair.remote].includes('relay'), 'these clients reach each other by the relay only');

      lab.connectServer(false);
      const broken = Promise.all(pages.map((page) => says(page, 'The way broke.')));
      await new Promise((resolve) => setTimeout(resolve, cut));
      await broken;
      lab.connectServer(true);

      const back = Date.now();
      // Either side restarts for itself: the call may be back by the other's offer before one has asked for its credentials.
      const isRestarted = (call, n) => call.state === 'connected' && call.ufrag !== before[n].ufrag
        && call.usernames.length > 0 && !call.usernames.some((username) => before[n].usernames.includes(username));
      const now = await until(ofPages, (all) => all.every(isRestarted), 'both connected, under fresh credentials');
      await Promise.all(pages.map((page) => mediaFlows(page)));
      t.diagnostic(`sound and pictures both ways ${((Date.now() - back) / 1000).toFixed(1)} s after the cable was back in`);
      assert.deepEqual(now.map(({ id }) => id), before.map(({ id }) => id), 'the same connections, restarted');
      await Promise.all(pages.map((page) => says(page, 'Connected.')));
      await Promise.all(pages.map((page) => page.context().close()));
    });
  }
});
