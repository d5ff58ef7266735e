// The smallest app that can use TURN: it serves a page, and hands out ICE servers that it asks Turnwell for.
// The API key stays here; the browser sees only time-limited credentials.

import { createServer } from 'node:http';
import { once } from 'node:events';
import { readFile } from 'node:fs/promises';

const PAGE = new URL('../page/', import.meta.url);
const TYPES = { html: 'text/html', js: 'text/javascript' };

/** `iceServers()` answers `GET /ice-servers`; it may be replaced between calls. */
export class App {
  #server;

  static async start(iceServers) {
    const app = new App();
    app.iceServers = iceServers;
    app.#server = createServer((request, response) => app.#answer(request, response));
    app.#server.listen(0, '127.0.0.1');
    await once(app.#server, 'listening');
    app.origin = `http://127.0.0.1:${app.#server.address().port}`;
    return app;
  }

  stop() {
    this.#server.close();
    this.#server.closeAllConnections();
  }

  async #answer(request, response) {
    try {
      if (request.url === '/ice-servers') {
        const body = JSON.stringify(await this.iceServers());
        response.writeHead(200, { 'content-type': 'application/json', 'cache-control': 'no-store' }).end(body);
        return;
      }
      const name = { '/': 'index.html', '/peers.js': 'peers.js' }[request.url];
      if (name === undefined) {
        response.writeHead(404).end();
        return;
      }
      const body = await readFile(new URL(name, PAGE));
      response.writeHead(200, { 'content-type': TYPES[name.split('.').pop()] }).end(body);
    } catch (error) {
      response.writeHead(502).end(String(error));
    }
  }
}
