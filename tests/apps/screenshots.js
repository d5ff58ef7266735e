// Takes the screenshots of the examples' READMEs: node screenshots.js

import { fileURLToPath } from 'node:url';

import { launchChromium } from '../browser/lib/chromium.js';
import { Turnwell } from '../browser/lib/turnwell.js';
import { Example } from './lib/example.js';
import { mediaFlows, openPage } from './lib/observe.js';

const EXAMPLES = fileURLToPath(new URL('../../examples/', import.meta.url));
const LOOKS = { viewport: { width: 880, height: 640 } };

const click = (page, name) => page.getByRole('button', { name, exact: true }).click();

async function say(page, text) {
  await page.getByLabel('Message', { exact: true }).fill(text);
  await page.keyboard.press('Enter');
  await page.getByRole('log').getByText(text).waitFor();
}

/** Each brings its app to a state worth showing, and returns the page to show. */
const scenes = {
  async 'call-signaling'(open) {
    const [ann, bob] = [await open(), await open()];
    for (const [page, name] of [[ann, 'Ann'], [bob, 'Bob']]) {
      await page.getByLabel('Name').fill(name);
      await click(page, 'Log in');
    }
    await click(ann, 'Call Bob');
    await click(bob, 'Answer');
    await mediaFlows(ann);
    return ann;
  },

  async 'p2p-chat'(open) {
    const ann = await open();
    await ann.waitForURL(/#.+/);
    const bob = await open(ann.url());
    for (const page of [ann, bob]) await page.getByText('Connected.').waitFor();
    for (const page of [ann, bob]) await page.getByRole('switch').check();
    await ann.getByText('relay ↔ relay').waitFor();
    await say(ann, 'Here are the notes for tomorrow.');
    await ann.getByLabel('Send a file').setInputFiles({ name: 'notes.pdf', mimeType: 'application/pdf', buffer: Buffer.alloc(3_000_000) });
    await bob.getByRole('link', { name: 'notes.pdf' }).waitFor();
    await say(bob, 'Got them, thank you!');
    await ann.getByText('Got them').waitFor();
    return ann;
  },

  async 'video-link'(open) {
    const ann = await open();
    const bob = await open(ann.url());
    for (const [page, name] of [[ann, 'Ann'], [bob, 'Bob']]) {
      await page.getByLabel('Your name').fill(name);
      await click(page, 'Join with camera and microphone');
    }
    await mediaFlows(ann);
    await click(bob, 'Microphone');
    await ann.getByText('microphone off').waitFor();
    return ann;
  },

  async 'chat-rooms'(open) {
    const pages = [];
    for (const name of ['Ann', 'Bob', 'Carol']) {
      const page = await open();
      pages.push(page);
      await page.getByLabel('Name').fill(name);
      await click(page, 'Come in');
      await click(page, 'Mathematics');
      await page.getByRole('heading', { name: 'Mathematics' }).waitFor();
      await click(page, 'Join the voice channel');
      await page.getByRole('button', { name: 'Leave' }).waitFor();
    }
    await say(pages[0], 'Chapter four, the second exercise: who has it?');
    await say(pages[1], 'I have. Join the voice channel, I will explain.');
    await say(pages[2], 'On my way.');
    await pages[0].getByText('On my way.').waitFor();
    await mediaFlows(pages[0], { count: 2, video: false });
    return pages[0];
  },
};

const turnwell = await Turnwell.start();
const browser = await launchChromium();
for (const [index, [name, scene]] of Object.entries(scenes).entries()) {
  const app = await Example.start(name, turnwell);
  const colorScheme = index % 2 ? 'dark' : 'light';
  const page = await scene((url = app.origin) => openPage(browser, url, { ...LOOKS, colorScheme }));
  await page.mouse.move(0, 0);
  await page.screenshot({ path: `${EXAMPLES}${name}/screenshot.png` });
  await Promise.all(browser.contexts().map((context) => context.close()));
  await app.stop();
}
await browser.close();
await turnwell.stop();
