// Starts one of the example apps as its README says, with `npm start`, and stops it again.

import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { createInterface } from 'node:readline';
import { fileURLToPath } from 'node:url';

const EXAMPLES = fileURLToPath(new URL('../../../examples/', import.meta.url));
const READY_WITHIN_MS = 20_000;
const GONE_WITHIN_MS = 5_000;

/** `origin` is the address that the app printed. */
export class Example {
  #child;
  #log = [];

  /** `through` is a command to start it through, such as one that enters a network namespace. */
  static async start(name, { api, apiKey, host = 'localhost', through = [] }) {
    const example = new Example();
    const env = { ...process.env, TURNWELL_API: api, TURNWELL_KEY: apiKey, HOST: host, PORT: '0' };
    const [command, ...args] = [...through, 'npm', 'start', '--silent'];
    // A process group of its own: npm does not always end what it started.
    const child = spawn(command, args, { cwd: EXAMPLES + name, env, detached: true, stdio: ['ignore', 'pipe', 'pipe'] });
    example.#child = child;
    createInterface({ input: child.stderr }).on('line', (line) => example.#log.push(line));
    const deadline = setTimeout(() => example.#kill('SIGKILL'), READY_WITHIN_MS);
    const closed = once(child, 'close').then(() => undefined);
    const opened = (async () => {
      for await (const line of createInterface({ input: child.stdout })) {
        const origin = /^Open (http:\S+)$/.exec(line)?.[1];
        if (origin) return origin;
      }
    })();
    example.origin = await Promise.race([opened, closed]);
    clearTimeout(deadline);
    if (!example.origin) throw new Error(`${name} did not start (npm ci?)\n${example.log}`);
    return example;
  }

  get log() {
    return this.#log.join('\n');
  }

  async stop() {
    const exit = this.#child.exitCode === null && this.#child.signalCode === null && once(this.#child, 'exit');
    const timer = setTimeout(() => this.#kill('SIGKILL'), GONE_WITHIN_MS);
    this.#kill('SIGTERM');
    await exit;
    clearTimeout(timer);
  }

  #kill(signal) {
    try {
      process.kill(-this.#child.pid, signal);
    } catch (error) {
      if (error.code !== 'ESRCH') throw error;
    }
  }
}
