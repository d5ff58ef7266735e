// Debian's coturn on loopback with Turnwell's secret, so that a credential minted by Turnwell opens it too.

import { spawn } from 'node:child_process';
import { mkdtemp, rm } from 'node:fs/promises';
import { once } from 'node:events';
import dgram from 'node:dgram';
import { tmpdir } from 'node:os';
import { join } from 'node:path';

import { until } from './observe.js';

const BINDING_REQUEST = Buffer.from('000100002112a442000000000000000000000000', 'hex');

export class Coturn {
  #child;
  #folder;

  static async start({ secret, realm }) {
    const coturn = new Coturn();
    const port = await freePort();
    coturn.address = `127.0.0.1:${port}`;
    coturn.#folder = await mkdtemp(join(tmpdir(), 'coturn-'));
    const at = (name) => join(coturn.#folder, name);
    coturn.#child = spawn('turnserver', [
      '-n', '--listening-ip=127.0.0.1', '--relay-ip=127.0.0.1', `--listening-port=${port}`,
      '--min-port=30000', '--max-port=32000', '--use-auth-secret', `--static-auth-secret=${secret}`, `--realm=${realm}`,
      '--allow-loopback-peers', '--no-cli', '--no-tls', '--no-dtls', '--no-tcp', '--no-stdout-log',
      `--log-file=${at('log')}`, `--userdb=${at('db')}`, `--pidfile=${at('pid')}`,
    ], { stdio: 'ignore' });
    try {
      await until(() => answersBinding(port), (answered) => answered, 'coturn answers');
      return coturn;
    } catch (error) {
      await coturn.stop();
      throw error;
    }
  }

  async stop() {
    const exit = this.#child.exitCode === null && this.#child.signalCode === null && once(this.#child, 'exit');
    this.#child.kill('SIGKILL'); // it has nothing to save, and takes seconds to end otherwise
    await exit;
    await rm(this.#folder, { recursive: true });
  }
}

async function freePort() {
  const socket = dgram.createSocket('udp4').bind(0, '127.0.0.1');
  await once(socket, 'listening');
  const { port } = socket.address();
  socket.close();
  return port;
}

async function answersBinding(port) {
  const socket = dgram.createSocket('udp4');
  try {
    socket.connect(port, '127.0.0.1');
    await once(socket, 'connect');
    socket.send(BINDING_REQUEST);
    const answered = once(socket, 'message', { signal: AbortSignal.timeout(200) }).then(() => true);
    return await answered.catch(() => false);
  } finally {
    socket.close();
  }
}
