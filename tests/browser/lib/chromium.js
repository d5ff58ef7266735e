// A headless Chromium with fake media devices, allowed to do ICE on loopback.

import { chromium } from 'playwright-core';

// Chromium gathers nothing on 127.0.0.1 without the first flag, and says nothing about it.
// The others give it a camera that needs no permission, and keep it from calling home.
const FLAGS = [
  '--allow-loopback-in-peer-connection',
  '--use-fake-device-for-media-stream',
  '--use-fake-ui-for-media-stream',
  '--no-sandbox',
  '--disable-gpu',
  '--disable-quic',
  '--no-first-run',
  '--disable-background-networking',
  '--disable-component-update',
  '--disable-sync',
];

/** CHROMIUM_BIN names another browser. The profile is fresh, and removed by `close()`. */
export function launchChromium({ flags = [], env = {} } = {}) {
  return chromium.launch({
    executablePath: process.env.CHROMIUM_BIN ?? '/usr/bin/chromium',
    args: [...FLAGS, ...flags],
    env: { ...process.env, ...env },
  });
}
