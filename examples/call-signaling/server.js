// Who is there, who calls whom, and the messages between the two: all that a call needs from a server.
//
// From the browser: login, call, answer, decline, hangup, signal.
// To the browser:   people, refused (login), incoming, start, signal, ended.
// Sound and pictures never come here: they go directly between the browsers, or through Turnwell.

import { createServer } from 'node:http';
import { WebSocketServer } from 'ws';

import { mintIceServers } from '../shared/ice-servers.js';
import { keepAlive, listen, onMessage, serveFiles } from '../shared/web.js';

const RING_MS = 30_000;
const NAME = /^[\p{L}\p{N}][\p{L}\p{N} ._-]{0,31}$/u;

/** By name: { name, call, send }. */
const users = new Map();

const server = createServer(serveFiles(new URL('page/', import.meta.url)));
const sockets = new WebSocketServer({ server, path: '/signaling', maxPayload: 64 * 1024 });
keepAlive(sockets);

sockets.on('connection', (socket) => {
  const send = (message) => socket.send(JSON.stringify(message));
  let user;
  onMessage(socket, (message) => {
    if (user) return actions.get(message.type)?.(user, message);
    if (message.type === 'login') user = login(message.name, send);
  });
  socket.on('close', () => {
    if (user) logout(user);
  });
});

function login(name, send) {
  // A real app checks a password or a session here: credentials are minted for whoever gets past this line.
  if (typeof name !== 'string' || !NAME.test(name)) {
    return void send({ type: 'refused', reason: 'Please use letters and digits, 32 at most.' });
  }
  if (users.has(name)) return void send({ type: 'refused', reason: `${name} is already here.` });
  const user = { name, send, call: null };
  users.set(name, user);
  tellEverybody();
  return user;
}

function logout(user) {
  users.delete(user.name);
  if (user.call) end(user.call, 'disconnected', user);
  tellEverybody();
}

const actions = new Map(Object.entries({
  call(caller, { to }) {
    const callee = users.get(to);
    if (caller.call || callee === caller) return;
    if (!callee) return caller.send({ type: 'ended', reason: 'offline', by: to });
    if (callee.call) return caller.send({ type: 'ended', reason: 'busy', by: to });
    const call = { caller, callee, answered: false };
    call.ringing = setTimeout(() => end(call, 'unanswered', callee), RING_MS);
    caller.call = call;
    callee.call = call;
    callee.send({ type: 'incoming', from: caller.name });
    tellEverybody();
  },

  async answer(user) {
    const { call } = user;
    if (call?.callee !== user || call.answered) return;
    call.answered = true;
    clearTimeout(call.ringing);
    try {
      const [forCaller, forCallee] = await Promise.all([call.caller, user].map(({ name }) => mintIceServers(name)));
      if (user.call !== call) return; // hung up in the meantime
      // The callee first: it must have a connection when the caller's offer comes.
      user.send({ type: 'start', peer: call.caller.name, configuration: forCallee });
      call.caller.send({ type: 'start', peer: user.name, configuration: forCaller, offer: true });
    } catch (error) {
      console.error(error.message);
      end(call, 'broken', user);
    }
  },

  decline(user) {
    if (user.call && !user.call.answered) end(user.call, 'declined', user);
  },

  hangup(user) {
    if (user.call) end(user.call, 'hung-up', user);
  },

  signal(user, { description, candidate }) {
    const { call } = user;
    if (call?.answered) other(call, user).send({ type: 'signal', description, candidate });
  },
}));

function end(call, reason, by) {
  clearTimeout(call.ringing);
  for (const user of [call.caller, call.callee]) {
    user.call = null;
    if (users.has(user.name)) user.send({ type: 'ended', reason, by: by.name });
  }
  tellEverybody();
}

function other(call, user) {
  return call.caller === user ? call.callee : call.caller;
}

function tellEverybody() {
  const people = [...users.values()].map(({ name, call }) => ({ name, busy: call !== null }));
  for (const user of users.values()) user.send({ type: 'people', people });
}

listen(server);
