// A few lines of web server that the examples share: static files, JSON over WebSocket, and listening.

import { readdirSync } from 'node:fs';
import { readFile } from 'node:fs/promises';
import { fileURLToPath } from 'node:url';

const SHARED = new URL('./', import.meta.url);
const HEARTBEAT_MS = 15_000;
const TYPES = {
  html: 'text/html; charset=utf-8',
  js: 'text/javascript; charset=utf-8',
  css: 'text/css; charset=utf-8',
};

/** Nothing is loaded from anywhere else: no CDN, no tracker; the browser holds us to it. */
export const HEADERS = {
  'content-security-policy':
    "default-src 'self'; connect-src 'self' ws: wss:; img-src 'self' data:; media-src 'self' blob:; frame-ancestors 'none'",
  'referrer-policy': 'no-referrer',
  'x-content-type-options': 'nosniff',
};

export const BASE_CSS = fileURLToPath(new URL('base.css', SHARED));

/** Answers requests for the files of one folder, and for /base.css. Only names listed at the start are ever read. */
export function serveFiles(folder) {
  const files = new Map(readdirSync(folder).map((name) => [`/${name}`, new URL(name, folder)]));
  files.set('/', new URL('index.html', folder));
  files.set('/base.css', new URL('base.css', SHARED));
  return async (request, response) => {
    const file = files.get(request.url.split('?')[0]);
    if (file === undefined) return response.writeHead(404, HEADERS).end('not found');
    const type = TYPES[file.pathname.split('.').pop()];
    response.writeHead(200, { ...HEADERS, 'content-type': type }).end(await readFile(file));
  };
}

/** Calls `receive` with each JSON object; whoever sends anything else, or makes `receive` fail, is disconnected. */
export function onMessage(socket, receive) {
  socket.on('error', () => {}); // 'close' follows
  socket.on('message', async (data) => {
    try {
      const message = JSON.parse(data);
      if (message === null || typeof message !== 'object') throw new TypeError('not an object');
      await receive(message);
    } catch (error) {
      console.error(error.message);
      socket.close(1008);
    }
  });
}

/** Pings every socket; one that has not answered by the next time is gone, though no packet says so. */
export function keepAlive(sockets) {
  const timer = setInterval(() => {
    for (const socket of sockets.clients) {
      if (socket.silent) socket.terminate();
      socket.silent = true;
      socket.ping();
    }
  }, HEARTBEAT_MS);
  timer.unref();
  sockets.on('connection', (socket) => socket.on('pong', () => (socket.silent = false)));
}

/** HOST and PORT say where. Browsers give camera and microphone to localhost and to https only. */
export function listen(server) {
  const host = process.env.HOST ?? 'localhost';
  server.listen(Number(process.env.PORT ?? 3000), host, () => {
    console.log(`Open http://${host}:${server.address().port}`);
  });
}
