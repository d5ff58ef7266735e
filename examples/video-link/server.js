// Pages with Express, rooms of two over WebSocket. A member who loses the network comes back under the same id
// and takes its old place.
//
// From the browser: ice, signal, state (name and what is muted), bye. To the browser: ice, peer, signal, state, left.

import { randomUUID } from 'node:crypto';
import { createServer } from 'node:http';
import { fileURLToPath } from 'node:url';

import express from 'express';
import { WebSocketServer } from 'ws';

import { mintIceServers } from '../shared/ice-servers.js';
import { BASE_CSS, HEADERS, keepAlive, listen, onMessage } from '../shared/web.js';

const PAGE = fileURLToPath(new URL('page/', import.meta.url));
const ID = /^[0-9a-f-]{36}$/;
const AWAY_MS = 20_000; // so long a place is kept for a member whose socket broke

const app = express();
app.disable('x-powered-by');
app.use((request, response, next) => {
  response.set(HEADERS);
  next();
});
app.get('/', (request, response) => response.redirect(`/room/${randomUUID()}`));
app.get('/room/:id', (request, response) => response.sendFile('index.html', { root: PAGE }));
app.get('/base.css', (request, response) => response.sendFile(BASE_CSS));
app.use(express.static(PAGE, { index: false }));

const server = createServer(app);
const sockets = new WebSocketServer({ server, path: '/signaling', maxPayload: 64 * 1024 });
keepAlive(sockets);

/** Room id → Map of member id → { socket, state }. The first in the map is the one who was there first. */
const rooms = new Map();

sockets.on('connection', (socket, request) => {
  const query = new URL(request.url, 'http://localhost').searchParams;
  const [roomId, id] = [query.get('room'), query.get('member')];
  if (!ID.test(roomId) || !ID.test(id)) return socket.close(4400, 'This link is not complete.');
  const room = rooms.get(roomId) ?? new Map();
  if (!room.has(id) && room.size === 2) return socket.close(4409, 'There are two in this room already.');
  rooms.set(roomId, room);

  room.get(id)?.socket.close(4410, 'You are back on another connection.');
  const member = { socket, state: room.get(id)?.state ?? {} };
  room.set(id, member);
  const other = () => [...room].find(([otherId]) => otherId !== id);
  const send = (to, message) => to?.socket.send(JSON.stringify(message));

  onMessage(socket, async ({ type, ...rest }) => {
    const [, peer] = other() ?? [];
    // A room's link cannot be guessed; an app with accounts would mint for those who are logged in.
    if (type === 'ice') send(member, { type, configuration: await mintIceServers(id) });
    if (type === 'signal') send(peer, { type, ...rest });
    if (type === 'state') {
      member.state = rest.state;
      send(peer, { type, state: rest.state });
    }
    if (type === 'bye') leave();
  });
  socket.on('close', () => setTimeout(leave, AWAY_MS));

  function leave() {
    if (room.get(id) !== member) return; // taken over, or gone already
    room.delete(id);
    const [, peer] = other() ?? [];
    send(peer, { type: 'left' });
    if (room.size === 0) rooms.delete(roomId);
  }

  // Whoever came first is impolite: its offer stands when two cross.
  const [otherId, peer] = other() ?? [];
  if (peer) {
    const first = [...room.keys()][0];
    send(peer, { type: 'peer', id, polite: first === id, state: member.state });
    send(member, { type: 'peer', id: otherId, polite: first === otherId, state: peer.state });
  }
});

listen(server);
