// Starts `turnwell dev` on free loopback ports and stops it again; waits for its readiness, not for time.
//
// TURNWELL_BIN names the binary; without it the newest of the repository's own builds is taken.

import { spawn } from 'node:child_process';
import { statSync } from 'node:fs';
import { once } from 'node:events';
import { createInterface } from 'node:readline';
import { fileURLToPath } from 'node:url';

const REPOSITORY = fileURLToPath(new URL('../../../', import.meta.url));
const READY_WITHIN_MS = 15_000;
const GONE_WITHIN_MS = 5_000;
const LOG_LINES_KEPT = 200;

/** A running server: `listen`, `certificate` (the path of a PEM file), `api`, `apiKey`, `secret` and `realm` are what its ready line says. */
export class Turnwell {
  #child;
  #log = [];

  /** `through` is a command to start it through, such as one that enters a network namespace. */
  static async start({ listen = ['127.0.0.1:0'], api = '127.0.0.1:0', relay = ['127.0.0.1'], flags = [], through = [] } = {}) {
    const server = new Turnwell();
    const ready = await server.#launch([
      ...through, binary(),
      'dev', '--json', '--api', api, '--relay-ports', '20000-29999',
      ...listen.flatMap((address) => ['--listen', address]),
      ...relay.flatMap((address) => ['--relay-ip', address]),
      ...flags,
    ]);
    Object.assign(server, {
      listen: ready.listen, certificate: ready.certificate, api: ready.api, apiKey: ready.api_key, secret: ready.secret, realm: ready.realm,
    });
    return server;
  }

  /** What an application's back end does: asks for credentials with its API key. */
  async mint(request = {}) {
    const response = await fetch(`${this.api}/v1/credentials`, {
      method: 'POST',
      headers: { authorization: `Bearer ${this.apiKey}`, 'content-type': 'application/json' },
      body: JSON.stringify(request),
    });
    if (response.status !== 201) throw new Error(`credentials: ${response.status} ${await response.text()}`);
    return response.json();
  }

  /** Ends the server as an operator would; anything but exit code 0 in good time is an error. */
  async stop() {
    if (this.#child.exitCode === null && this.#child.signalCode === null) {
      const exit = once(this.#child, 'exit');
      const timer = setTimeout(() => this.#child.kill('SIGKILL'), GONE_WITHIN_MS);
      this.#child.kill('SIGTERM');
      await exit;
      clearTimeout(timer);
    }
    if (this.#child.exitCode !== 0) {
      throw new Error(`turnwell ended with ${this.#child.exitCode ?? this.#child.signalCode}\n${this.log}`);
    }
  }

  get log() {
    return this.#log.join('\n');
  }

  async #launch([command, ...args]) {
    const child = spawn(command, args, { stdio: ['ignore', 'pipe', 'pipe'] });
    this.#child = child;
    createInterface({ input: child.stderr }).on('line', (line) => {
      this.#log.push(line);
      if (this.#log.length > LOG_LINES_KEPT) this.#log.shift();
    });
    const timer = setTimeout(() => child.kill('SIGKILL'), READY_WITHIN_MS);
    try {
      const failed = once(child, 'close').then(() => {
        throw new Error(`turnwell ended before it was ready\n${this.log}`);
      });
      const [line] = await Promise.race([once(createInterface({ input: child.stdout }), 'line'), failed]);
      failed.catch(() => {});
      return JSON.parse(line);
    } finally {
      clearTimeout(timer);
    }
  }
}

function binary() {
  if (process.env.TURNWELL_BIN) return process.env.TURNWELL_BIN;
  const built = ['release', 'debug']
    .map((profile) => `${REPOSITORY}target/${profile}/turnwell`)
    .map((path) => ({ path, at: statSync(path, { throwIfNoEntry: false })?.mtimeMs }))
    .filter(({ at }) => at !== undefined)
    .sort((a, b) => b.at - a.at);
  if (built.length === 0) throw new Error('no turnwell binary: run `cargo build` or set TURNWELL_BIN');
  return built[0].path;
}
