// A headless Chromium with fake media devices, allowed to do ICE on loopback.

import { execFileSync } from 'node:child_process';
import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
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
 * `trusts` is the PEM file of a certificate to accept, in the store of a home that is the browser's own.
 * `through` is a command to start it through, such as one that enters a network namespace.
 */
export async function launchChromium({ flags = [], env = {}, through = [], trusts } = {}) {
  const binary = process.env.CHROMIUM_BIN ?? '/usr/bin/chromium';
  const folder = mkdtempSync(join(tmpdir(), 'chromium-'));
  const starter = join(folder, 'start');
  writeFileSync(starter, `#!/bin/sh\nexec ${[...through, binary].join(' ')} "$@"\n`, { mode: 0o755 });
  const home = trusts ? { HOME: homeThatTrusts(trusts, folder) } : {};
  // Children of the browser may still write into it as it ends.
  const remove = () => rmSync(folder, { recursive: true, force: true, maxRetries: 5 });
  try {
    const options = { executablePath: starter, args: [...FLAGS, ...flags], env: { ...process.env, ...home, ...env } };
    const browser = await chromium.launch(options);
    browser.on('disconnected', remove);
    return browser;
  } catch (error) {
    remove();
    throw error;
  }
}

/** A home folder whose NSS database trusts one self-signed certificate. */
function homeThatTrusts(certificate, folder) {
  const database = join(folder, 'home', '.pki', 'nssdb');
  mkdirSync(database, { recursive: true });
  const certutil = (...args) => execFileSync('certutil', ['-d', `sql:${database}`, ...args], { stdio: 'pipe' });
  certutil('-N', '--empty-password');
  certutil('-A', '-n', 'turnwell', '-t', 'P,,', '-i', certificate);
  return join(folder, 'home');
}
