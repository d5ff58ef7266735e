// Express for the page and the session, socket.io for the text, PeerServer to bring voices together.
// Voices go from browser to browser, or through Turnwell, never through here.

import { randomUUID } from 'node:crypto';
import { createServer } from 'node:http';
import { fileURLToPath } from 'node:url';

import express from 'express';
import { ExpressPeerServer } from 'peer';
import { Server } from 'socket.io';
import { WebSocketServer } from 'ws';

import { mintIceServers } from '../shared/ice-servers.js';
import { BASE_CSS, HEADERS, listen } from '../shared/web.js';

const ROOMS = ['Lobby', 'Quiet study', 'Mathematics'];
const HISTORY = 200; // messages per room, in memory
const VOICES = 6; // in a mesh everybody sends to everybody
const SESSIONS = 10_000;
const NAME = /^[\p{L}\p{N}][\p{L}\p{N} ._-]{0,31}$/u;

const sessions = new Map(); // id → { id, name }
const rooms = new Map(ROOMS.map((name) => [name, { history: [], people: new Map(), voice: new Map() }]));

const app = express();
const server = createServer(app);
app.disable('x-powered-by');
app.use((request, response, next) => {
  response.set(HEADERS);
  next();
});
app.get('/base.css', (request, response) => response.sendFile(BASE_CSS));
for (const folder of ['page/', 'dist/']) app.use(express.static(fileURLToPath(new URL(folder, import.meta.url))));

// A real app checks a password here; credentials for the relay are minted for whoever has a session.
app.post('/api/session', express.json({ limit: '1kb' }), (request, response) => {
  const { name } = request.body ?? {};
  if (typeof name !== 'string' || !NAME.test(name)) return response.status(400).json({ problem: 'Please use letters and digits, 32 at most.' });
  const session = { id: randomUUID(), name };
  sessions.set(session.id, session);
  if (sessions.size > SESSIONS) sessions.delete(sessions.keys().next().value); // the oldest
  response.cookie('session', session.id, { httpOnly: true, sameSite: 'strict', secure: request.secure });
  response.json({ name, rooms: ROOMS });
});

app.get('/api/ice', async (request, response) => {
  const session = sessionOf(request);
  if (!session) return response.status(401).json({ problem: 'Please come in first.' });
  try {
    response.set('cache-control', 'no-store').json(await mintIceServers(session.id));
  } catch (error) {
    console.error(error.message);
    response.status(502).json({ problem: 'The relay cannot be asked just now.' });
  }
});

function sessionOf({ headers }) {
  return sessions.get(/(?:^|; )session=([0-9a-f-]{36})/.exec(headers.cookie)?.[1]);
}

// Text ----------------------------------------------------------------------------------------------------------

const io = new Server(server, { serveClient: false, maxHttpBufferSize: 16 * 1024, destroyUpgrade: false });
io.use((socket, next) => {
  socket.data.session = sessionOf(socket.request);
  next(socket.data.session ? undefined : new Error('Please come in first.'));
});

io.on('connection', (socket) => {
  const { name } = socket.data.session;
  let at; // the name of the room that the socket is in

  socket.on('enter', (roomName, answer) => {
    const room = rooms.get(roomName);
    if (!room || typeof answer !== 'function') return;
    leave();
    at = roomName;
    room.people.set(socket.id, name);
    socket.join(at);
    answer({ history: room.history, people: [...room.people.values()], voice: [...room.voice.values()] });
    tell('people');
  });

  socket.on('say', (text) => {
    if (!at || typeof text !== 'string' || text.length > 2000) return;
    const message = { id: randomUUID(), name, text, at: new Date().toISOString() };
    const { history } = rooms.get(at);
    history.push(message);
    if (history.length > HISTORY) history.shift();
    io.to(at).emit('message', message);
  });

  socket.on('voice:enter', (peer, answer) => {
    if (!at || typeof peer !== 'string' || typeof answer !== 'function') return;
    const { voice } = rooms.get(at);
    if (voice.size >= VOICES) return answer({ problem: `The voice channel is full: ${VOICES} are in it.` });
    const others = [...voice.values()].map((member) => member.peer);
    voice.set(socket.id, { name, peer });
    answer({ others });
    tell('voice');
  });

  socket.on('voice:leave', leaveVoice);
  socket.on('disconnect', leave);

  function leaveVoice() {
    if (at && rooms.get(at).voice.delete(socket.id)) tell('voice');
  }

  function leave() {
    if (!at) return;
    leaveVoice();
    rooms.get(at).people.delete(socket.id);
    tell('people');
    socket.leave(at);
    at = undefined;
  }

  function tell(what) {
    io.to(at).emit(what, [...rooms.get(at)[what].values()]);
  }
});

// Voice ---------------------------------------------------------------------------------------------------------

// PeerServer and socket.io share one port: each is given only the upgrades that are its own.
const peerSockets = new WebSocketServer({ noServer: true, maxPayload: 64 * 1024 });
app.use('/peerjs', ExpressPeerServer(server, { allow_discovery: false, createWebSocketServer: () => peerSockets }));
server.on('upgrade', (request, socket, head) => {
  if (request.url.startsWith('/peerjs/')) {
    peerSockets.handleUpgrade(request, socket, head, (opened) => peerSockets.emit('connection', opened, request));
  } else if (!request.url.startsWith('/socket.io/')) {
    socket.destroy();
  }
});

listen(server);
