// The page: one RTCPeerConnection without media, one data channel for the words, one more for each file.

import { receiveFile, sendFile } from './files.js';
import { Seal, newKey } from './seal.js';
import { candidateSummary, describePair } from './way.js';

const $ = (id) => document.getElementById(id);
const encoder = new TextEncoder();
const decoder = new TextDecoder();

// The link: #room.key. Nothing behind the # is ever sent to a server by the browser; we send the room only.
if (!/^#[0-9a-f-]{36}\.[0-9a-f]{64}$/.test(location.hash)) {
  history.replaceState(null, '', `#${crypto.randomUUID()}.${newKey()}`);
}
window.onhashchange = () => location.reload();
const [room, secret] = location.hash.slice(1).split('.');
const key = await Seal.importKey(secret);

let connection; // with the one who is in the room now
let current; // its id: signals for an earlier one may still be under way
let words; // its channel for the words, with `seal`
let side; // 'waiting' was here first and makes the offers that open a connection
let ignoring = false; // an offer of theirs that crossed ours, and the candidates that belong to it
let found; // candidates, to show: { local, remote }

// Signaling -----------------------------------------------------------------------------------------------------

const url = new URL(`/signaling?room=${room}`, location.href.replace(/^http/, 'ws'));
url.hash = '';
const socket = new WebSocket(url);
const send = (message) => socket.send(JSON.stringify(message));

const handlers = {
  async joined() {
    await connect('waiting', crypto.randomUUID());
  },

  async again() {
    if (side === 'waiting') await connect('waiting', crypto.randomUUID());
  },

  async signal({ id, description, candidate }) {
    if (description?.type === 'offer' && id !== current) await connect('joining', id);
    if (!connection || id !== current) return;
    if (candidate) {
      found.remote.push(candidate);
      showCandidates();
      return connection.addIceCandidate(candidate).catch((error) => {
        if (!ignoring) throw error;
      });
    }
    // Both may restart at once: then the one who joined gives way.
    ignoring = description.type === 'offer' && connection.signalingState !== 'stable' && side === 'waiting';
    if (ignoring) return;
    found.remote = [];
    await connection.setRemoteDescription(description);
    if (description.type === 'offer') await describe();
  },

  left() {
    if (connection?.connectionState !== 'connected') disconnect('The other one left. The link still works.');
  },
};

// One after the other: a candidate must not overtake the description before it, and a connection must not be closed
// while one is being added to it, for then the browser never says that it is done.
let work = Promise.resolve();
const later = (job, failed = console.error) => (work = work.then(job).catch(failed));

socket.onmessage = ({ data }) => {
  const message = JSON.parse(data);
  if (message.type === 'ice') return iceWaiting.shift()?.(message.configuration);
  later(() => handlers[message.type](message), (error) => {
    console.error(error);
    disconnect(`The connection could not be made: ${error.message}`);
  });
};

socket.onclose = ({ reason }) => {
  if (!connection) say(reason || 'The server is gone. Load the page again.');
};

const iceWaiting = [];
function iceConfiguration() {
  const answer = new Promise((resolve) => iceWaiting.push(resolve));
  send({ type: 'ice' });
  // Relay only: the other one learns the relay's address instead of ours.
  return answer.then((given) => ($('relay-only').checked ? { ...given, iceTransportPolicy: 'relay' } : given));
}

// The connection ------------------------------------------------------------------------------------------------

async function connect(as, id) {
  disconnect('Connecting …');
  side = as;
  current = id;
  found = { local: [], remote: [] };
  connection = new RTCPeerConnection(await iceConfiguration());
  connection.onicecandidate = ({ candidate }) => {
    if (!candidate) return;
    found.local.push(candidate);
    showCandidates();
    send({ type: 'signal', id, candidate });
  };
  connection.onconnectionstatechange = connectionChanged;
  connection.ondatachannel = ({ channel }) => receive(channel);
  if (side === 'waiting') connection.onnegotiationneeded = describe;

  const channel = connection.createDataChannel('words', { negotiated: true, id: 0 });
  channel.binaryType = 'arraybuffer';
  words = { channel, seal: new Seal(key, 'words', side) };
  channel.onopen = () => enable(true);
  const end = (text) => later(() => words?.channel === channel && disconnect(text));
  channel.onclose = () => end('The other one left. The link still works.');
  // Opened in turn: the seal counts.
  let opened = Promise.resolve();
  const { seal } = words;
  channel.onmessage = ({ data }) => {
    opened = opened.then(async () => showText(decoder.decode(await seal.open(data)), false)).catch(() => {
      end('A message was not sealed with the key of this link. Do not trust this connection.');
    });
  };
}

async function describe() {
  await connection.setLocalDescription();
  send({ type: 'signal', id: current, description: connection.localDescription });
}

async function connectionChanged({ target }) {
  if (target !== connection) return;
  if (target.connectionState === 'connected') {
    say('Connected. Only the two of you can read this.');
    await showPair();
  }
  if (target.connectionState === 'disconnected') await restart();
  if (target.connectionState === 'failed') {
    later(() => target === connection && target.connectionState === 'failed' && disconnect('The connection failed.'));
  }
}

/** The way broke: looks for another one, with fresh credentials. */
async function restart() {
  const restarting = connection;
  const configuration = await iceConfiguration();
  if (restarting !== connection) return;
  found.local = [];
  connection.setConfiguration(configuration);
  connection.onnegotiationneeded = describe;
  connection.restartIce();
}

function disconnect(text) {
  const closing = connection;
  connection = undefined;
  words = undefined;
  closing?.close();
  enable(false);
  say(text);
}

// What the user does --------------------------------------------------------------------------------------------

let sent = Promise.resolve();
$('say').onsubmit = (event) => {
  event.preventDefault();
  const text = event.target.elements.text.value.trim();
  if (!text || !words) return;
  event.target.reset();
  const { channel, seal } = words;
  sent = sent.then(async () => channel.send(await seal.seal(encoder.encode(text)))).catch(console.error);
  showText(text, true);
};

// A new connection: a restart would keep a working direct way in use, and the direct way is what the switch is against.
$('relay-only').onchange = () => {
  if (!connection) return;
  if (side === 'waiting') later(handlers.again);
  else send({ type: 'again' });
};

$('copy').onclick = async () => {
  await navigator.clipboard.writeText(location.href);
  say('The link is copied. Whoever has it can join and read.');
};

$('file').onchange = async ({ target }) => {
  const [file] = target.files;
  target.value = '';
  if (!file || !connection) return;
  const id = crypto.randomUUID();
  const channel = connection.createDataChannel(id);
  const row = showTransfer(file, true);
  try {
    await sendFile(channel, new Seal(key, id, side), file, row.progress);
    row.done();
  } catch (error) {
    row.fail(error);
  }
};

async function receive(channel) {
  let row;
  try {
    const seal = new Seal(key, channel.label, side);
    const file = await receiveFile(channel, seal, (head) => (row = showTransfer(head, false)), (now) => row.progress(now));
    row.done(file);
  } catch (error) {
    channel.close();
    row?.fail(error);
  }
}

// The page itself -----------------------------------------------------------------------------------------------

function showText(text, mine) {
  append(mine).textContent = text;
}

function append(mine) {
  const row = document.createElement('li');
  row.classList.toggle('mine', mine);
  $('messages').append(row);
  row.scrollIntoView({ block: 'end' });
  return row;
}

function showTransfer({ name, size }, mine) {
  const row = append(mine);
  const bar = document.createElement('progress');
  bar.max = size || 1;
  bar.setAttribute('aria-label', `${mine ? 'Sending' : 'Receiving'} ${name}`);
  row.append(`${name} (${megabytes(size)})`, bar);
  const started = performance.now();
  return {
    progress: (bytes) => (bar.value = bytes),
    fail: (error) => row.replaceChildren(`${name}: ${error.message}`),
    done(file) {
      const seconds = (performance.now() - started) / 1000;
      const speed = `${megabytes(size)} in ${seconds.toFixed(1)} s, ${megabytes(size / seconds)}/s`;
      const link = document.createElement(file ? 'a' : 'span');
      link.textContent = name;
      if (file) Object.assign(link, { href: URL.createObjectURL(file), download: name });
      row.replaceChildren(link, ` (${speed})`);
      row.scrollIntoView({ block: 'end' });
    },
  };
}

function megabytes(bytes) {
  return bytes < 1e6 ? `${(bytes / 1e3).toFixed(1)} kB` : `${(bytes / 1e6).toFixed(1)} MB`;
}

function showCandidates() {
  for (const end of ['local', 'remote']) $(end).textContent = candidateSummary(found[end]);
}

async function showPair() {
  if (connection) $('pair').textContent = await describePair(connection);
}

// The browser may change to a better pair at any time, and says so.
setInterval(showPair, 2000);

function enable(yes) {
  for (const control of [...$('say').elements, $('file')]) control.disabled = !yes;
  if (!yes) $('pair').textContent = 'none yet';
}

function say(text) {
  $('status').textContent = text;
}
