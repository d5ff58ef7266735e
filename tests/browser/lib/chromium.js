// A headless Chromium with fake media devices, allowed to do ICE on loopback.

import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';

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

/**
 * CHROMIUM_BIN names another browser. The profile is fresh, and removed by `close()`.
 * `through` is a command to start it through, such as one that enters a network namespace.
 */
export async function launchChromium({ flags = [], env = {}, through = [] } = {}) {
  const binary = process.env.CHROMIUM_BIN ?? '/usr/bin/chromium';
  const folder = mkdtempSync(join(tmpdir(), 'chromium-'));
  const starter = join(folder, 'start');
  writeFileSync(starter, `#!/bin/sh\nexec ${[...through, binary].join(' ')} "$@"\n`, { mode: 0o755 });
  try {
    return await chromium.launch({ executablePath: starter, args: [...FLAGS, ...flags], env: { ...process.env, ...env } });
  } finally {
    rmSync(folder, { recursive: true });
  }
}
