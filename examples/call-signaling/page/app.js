// The page: it shows who is there, and turns the server's messages into one RTCPeerConnection per call.

const $ = (id) => document.getElementById(id);
const socket = new WebSocket(new URL('/signaling', location.href.replace(/^http/, 'ws')));
const send = (message) => socket.send(JSON.stringify(message));

const REASONS = {
  offline: (name) => `${name} is not here.`,
  busy: (name) => `${name} is in another call.`,
  declined: (name) => `${name} declined.`,
  unanswered: (name) => `${name} did not answer.`,
  'hung-up': (name) => `${name} hung up.`,
  disconnected: (name) => `${name} lost the connection.`,
  broken: () => 'The call could not be set up.',
};

let me;
let media; // camera and microphone, from the click on call or answer until the end
let connection;

// What the server says ------------------------------------------------------------------------------------------

const handlers = {
  people({ people }) {
    $('login').hidden = true;
    $('people').hidden = !$('call').hidden;
    const rows = people.filter(({ name }) => name !== me).map(personRow);
    $('people').querySelector('ul').replaceChildren(...rows);
  },

  refused({ reason }) {
    say(reason);
  },

  incoming({ from }) {
    $('incoming-title').textContent = `${from} is calling`;
    $('incoming').showModal();
  },

  async start({ peer, configuration, offer }) {
    say(`Connecting to ${peer} …`);
    connection = new RTCPeerConnection(configuration);
    connection.onicecandidate = ({ candidate }) => candidate && send({ type: 'signal', candidate });
    connection.ontrack = ({ streams }) => ($('remote').srcObject = streams[0]);
    connection.onconnectionstatechange = ({ target }) => {
      if (target.connectionState === 'connected') say(`In a call with ${peer}.`);
      if (target.connectionState === 'failed') hangUp();
    };
    for (const track of media.getTracks()) connection.addTrack(track, media);
    if (offer) await describe();
  },

  async signal({ description, candidate }) {
    if (candidate) return connection.addIceCandidate(candidate);
    await connection.setRemoteDescription(description);
    if (description.type === 'offer') await describe();
  },

  ended({ reason, by }) {
    const text = by === me && reason === 'hung-up' ? 'You hung up.' : REASONS[reason](by === me ? 'You' : by);
    close();
    say(text);
  },
};

/** Makes the offer, or the answer to the one just set, and sends it. */
async function describe() {
  await connection.setLocalDescription();
  send({ type: 'signal', description: connection.localDescription });
}

// One after the other: a candidate must not overtake the description before it.
let work = Promise.resolve();
socket.onmessage = ({ data }) => {
  const message = JSON.parse(data);
  work = work.then(() => handlers[message.type](message)).catch((error) => {
    console.error(error);
    if (connection) hangUp();
  });
};

socket.onopen = () => ($('login').querySelector('button').disabled = false);

socket.onclose = () => {
  close();
  say('The server is gone. Load the page again.');
};

// What the user does --------------------------------------------------------------------------------------------

$('login').onsubmit = (event) => {
  event.preventDefault();
  me = new FormData($('login')).get('name').trim();
  send({ type: 'login', name: me });
  say(`You are ${me}.`);
};

async function call(name) {
  if (!(await openMedia())) return;
  say(`Calling ${name} …`);
  send({ type: 'call', to: name });
}

$('answer').onclick = async () => {
  $('incoming').close('answered');
  if (await openMedia()) send({ type: 'answer' });
  else send({ type: 'decline' });
};

$('decline').onclick = () => $('incoming').close();
$('incoming').onclose = ({ target }) => {
  if (target.returnValue === '') send({ type: 'decline' }); // the button, or the Escape key
  target.returnValue = '';
};

$('hangup').onclick = hangUp;

function hangUp() {
  send({ type: 'hangup' });
}

// The page itself -----------------------------------------------------------------------------------------------

async function openMedia() {
  try {
    // Without a camera it is a voice call.
    media = await navigator.mediaDevices.getUserMedia({ audio: true, video: true })
      .catch(() => navigator.mediaDevices.getUserMedia({ audio: true }));
  } catch (error) {
    say(`No microphone: ${error.message}`);
    return false;
  }
  $('local').srcObject = media;
  $('call').hidden = false;
  $('people').hidden = true;
  return true;
}

function close() {
  if ($('incoming').open) $('incoming').close('ended');
  connection?.close();
  connection = undefined;
  media?.getTracks().forEach((track) => track.stop());
  media = undefined;
  $('local').srcObject = null;
  $('remote').srcObject = null;
  $('call').hidden = true;
  $('people').hidden = me === undefined || socket.readyState !== WebSocket.OPEN;
}

function personRow({ name, busy }) {
  const row = document.createElement('li');
  const button = document.createElement('button');
  button.textContent = `Call ${name}`;
  button.onclick = () => call(name);
  row.append(busy ? `${name} (in a call)` : name, button);
  return row;
}

function say(text) {
  $('status').textContent = text;
}
