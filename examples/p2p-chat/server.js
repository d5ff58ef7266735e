// Brings two browsers together and forgets them: it passes their descriptions and candidates on, and hands out
// ICE servers. What they say to each other never comes here.

import { createServer } from 'node:http';
import { randomUUID } from 'node:crypto';
import { WebSocketServer } from 'ws';

import { mintIceServers } from '../shared/ice-servers.js';
import { keepAlive, listen, onMessage, serveFiles } from '../shared/web.js';

const ROOM = /^[0-9a-f-]{36}$/;

/** Room id → its one or two sockets. */
const rooms = new Map();

const server = createServer(serveFiles(new URL('page/', import.meta.url)));
const sockets = new WebSocketServer({ server, path: '/signaling', maxPayload: 64 * 1024 });
keepAlive(sockets);

sockets.on('connection', (socket, request) => {
  const id = new URL(request.url, 'http://localhost').searchParams.get('room');
  if (!ROOM.test(id)) return socket.close(4400, 'no such room');
  const room = rooms.get(id) ?? [];
  if (room.length === 2) return socket.close(4409, 'this room already has its two');
  rooms.set(id, [...room, socket]);

  const user = randomUUID(); // Turnwell needs to tell users apart, not to know them
  const send = (to, message) => to?.send(JSON.stringify(message));
  const other = () => rooms.get(id).find((member) => member !== socket);

  onMessage(socket, async ({ type, ...rest }) => {
    // A room id cannot be guessed; an app with accounts would mint for those who are logged in.
    if (type === 'ice') send(socket, { type, configuration: await mintIceServers(user) });
    if (type === 'signal' || type === 'again') send(other(), { type, ...rest });
  });

  socket.on('close', () => {
    send(other(), { type: 'left' });
    rooms.set(id, rooms.get(id).filter((member) => member !== socket));
    if (rooms.get(id).length === 0) rooms.delete(id);
  });

  // The one who waited makes the offer.
  send(other(), { type: 'joined' });
});

listen(server);
