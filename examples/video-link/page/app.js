// The page: buttons on one side, the call and the signaling on the other.

import { Call } from './call.js';
import { Signaling } from './signaling.js';

const $ = (id) => document.getElementById(id);

const tracks = { audio: null, video: null };
const remote = new MediaStream();

let signaling;
let call;
let sharing = false;

$('name').value = localStorage.getItem('name') ?? '';

// Signaling -----------------------------------------------------------------------------------------------------

$('join').onclick = async () => {
  $('join').disabled = true;
  await Promise.all([openTrack('audio'), openTrack('video')]);
  $('door').hidden = true;
  $('stage').hidden = false;
  say('Waiting for the other side. Send them the link of this page.');

  const url = new URL('/signaling', location.href.replace(/^http/, 'ws'));
  url.search = new URLSearchParams({ room: location.pathname.split('/').pop(), member: crypto.randomUUID() });
  signaling = new Signaling(url);
  signaling.addEventListener('open', tellState);
  signaling.addEventListener('message', ({ data }) => receive(data));
  signaling.addEventListener('refused', ({ data }) => leave(data));
};

const handlers = {
  async peer({ id, polite, state }) {
    if (call?.peer === id) {
      // The same one again: one of us was away for a moment, and missed who knows what.
      showState(state);
      return call.restart({ missed: true });
    }
    hangUp();
    const configuration = await signaling.iceConfiguration();
    call = new Call({ signaling, configuration, polite, tracks });
    call.peer = id;
    call.addEventListener('track', ({ data }) => showTrack(data));
    call.addEventListener('status', ({ data }) => STATUS[data] && say(STATUS[data]));
    showState(state);
  },

  signal: (message) => call?.receive(message),

  state: ({ state }) => showState(state),

  left() {
    hangUp();
    say('The other side ended the call. The link still works.');
  },
};

const STATUS = {
  connecting: 'Connecting …',
  connected: 'Connected.',
  disconnected: 'The way broke. Looking for another …',
  failed: 'The way broke. Looking for another …',
};

// One after the other: a candidate must not overtake the description before it.
let work = Promise.resolve();
function receive(message) {
  work = work.then(() => handlers[message.type](message)).catch((error) => console.error(error));
}

addEventListener('online', () => call?.restart());
addEventListener('pagehide', () => signaling?.close());

// Our side ------------------------------------------------------------------------------------------------------

$('microphone').onclick = () => toggle('audio');
$('camera').onclick = () => toggle('video');

/** Off means that the device is let go and the line turns one-way, not that silence is sent. */
async function toggle(kind) {
  if (kind === 'video' && sharing) await stopSharing();
  else if (tracks[kind]) closeTrack(kind);
  else await openTrack(kind);
  await changed(kind);
}

$('screen').onclick = async () => {
  if (sharing) {
    await stopSharing();
  } else {
    const [screen] = (await navigator.mediaDevices.getDisplayMedia({ video: true })).getVideoTracks();
    closeTrack('video');
    tracks.video = screen;
    sharing = true;
    screen.onended = async () => {
      await stopSharing();
      await changed('video');
    };
  }
  await changed('video');
};

async function stopSharing() {
  closeTrack('video');
  sharing = false;
  await openTrack('video');
}

$('name').onchange = () => {
  localStorage.setItem('name', $('name').value);
  tellState();
};

$('copy').onclick = async () => {
  await navigator.clipboard.writeText(location.href);
  say('The link is copied.');
};

$('end').onclick = () => leave('You ended the call. Load the page again to come back.');

async function openTrack(kind) {
  try {
    const media = await navigator.mediaDevices.getUserMedia({ [kind]: true });
    [tracks[kind]] = media.getTracks();
  } catch (error) {
    say(`Without ${kind === 'audio' ? 'microphone' : 'camera'}: ${error.message}`);
  }
  showOurs();
}

function closeTrack(kind) {
  tracks[kind]?.stop();
  tracks[kind] = null;
  showOurs();
}

async function changed(kind) {
  showOurs();
  tellState();
  await call?.send(kind, tracks[kind]);
}

function tellState() {
  const state = { name: $('name').value, audio: tracks.audio !== null, video: tracks.video !== null, sharing };
  signaling?.send({ type: 'state', state });
}

// The page itself -----------------------------------------------------------------------------------------------

function hangUp() {
  call?.close();
  call = undefined;
  for (const track of remote.getTracks()) remote.removeTrack(track);
  $('remote').srcObject = null; // no frozen picture of somebody who is gone
  showState({});
}

function leave(text) {
  signaling.close();
  hangUp();
  for (const kind of ['audio', 'video']) closeTrack(kind);
  $('stage').hidden = true;
  say(text);
}

function showTrack(track) {
  for (const old of remote.getTracks()) if (old.kind === track.kind) remote.removeTrack(old);
  remote.addTrack(track);
  $('remote').srcObject ??= remote;
}

function showState({ name, audio, video, sharing: theirScreen }) {
  $('their-name').textContent = name || (call ? 'The other side' : 'Nobody yet');
  $('remote').classList.toggle('off', video === false);
  const parts = [audio === false && 'microphone off', video === false && 'camera off', theirScreen && 'shares the screen'];
  $('their-state').textContent = parts.filter(Boolean).join(', ');
}

function showOurs() {
  $('local').srcObject = tracks.video ? new MediaStream([tracks.video]) : null;
  $('local').classList.toggle('screen', sharing);
  $('microphone').setAttribute('aria-pressed', tracks.audio !== null);
  $('camera').setAttribute('aria-pressed', tracks.video !== null && !sharing);
  $('screen').setAttribute('aria-pressed', sharing);
}

function say(text) {
  $('status').textContent = text;
}
