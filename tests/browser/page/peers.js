// Two peers in one page that may use relay candidates only; the test calls these functions.

const CHUNK = 16 * 1024;
const LOW_WATER = 256 * 1024;

async function relayOnly() {
  const response = await fetch('/ice-servers');
  if (!response.ok) throw new Error(`ice-servers: ${response.status} ${await response.text()}`);
  return { iceServers: await response.json(), iceTransportPolicy: 'relay' };
}

/** A caller and a callee, each with credentials of its own; candidates go across as they come. */
async function twoPeers() {
  const [caller, callee] = (await Promise.all([relayOnly(), relayOnly()])).map((c) => new RTCPeerConnection(c));
  for (const [from, to] of [[caller, callee], [callee, caller]]) {
    from.addEventListener('icecandidate', ({ candidate }) => candidate && to.addIceCandidate(candidate));
  }
  return { caller, callee };
}

// Both descriptions are set before either side's candidates can reach the other: candidate events come later.
async function negotiate({ caller, callee }) {
  await caller.setLocalDescription();
  await callee.setRemoteDescription(caller.localDescription);
  await callee.setLocalDescription();
  await caller.setRemoteDescription(callee.localDescription);
}

function connected(peer) {
  return new Promise((resolve, reject) => {
    const check = () => {
      if (peer.connectionState === 'connected') resolve();
      if (peer.connectionState === 'failed') reject(new Error('the peer connection failed'));
    };
    peer.addEventListener('connectionstatechange', check);
    check();
  });
}

function next(target, event) {
  return new Promise((resolve) => target.addEventListener(event, resolve, { once: true }));
}

/** Both candidate types of the pair that carries the traffic, with the transport towards the TURN server. */
async function selectedPair(peer) {
  const stats = await peer.getStats();
  const transport = [...stats.values()].find((entry) => entry.type === 'transport');
  const pair = stats.get(transport.selectedCandidatePairId);
  const local = stats.get(pair.localCandidateId);
  const remote = stats.get(pair.remoteCandidateId);
  return { local: local.candidateType, remote: remote.candidateType, relayProtocol: local.relayProtocol };
}

async function sha256(bytes) {
  const digest = new Uint8Array(await crypto.subtle.digest('SHA-256', bytes));
  return [...digest].map((byte) => byte.toString(16).padStart(2, '0')).join('');
}

function randomBytes(length) {
  const bytes = new Uint8Array(length);
  for (let at = 0; at < length; at += 65536) crypto.getRandomValues(bytes.subarray(at, at + 65536));
  return bytes;
}

async function sendAll(channel, bytes) {
  channel.bufferedAmountLowThreshold = LOW_WATER;
  for (let at = 0; at < bytes.length; at += CHUNK) {
    if (channel.bufferedAmount > 2 * LOW_WATER) await next(channel, 'bufferedamountlow');
    channel.send(bytes.subarray(at, at + CHUNK));
  }
}

function receiveAll(channel, length) {
  channel.binaryType = 'arraybuffer';
  const bytes = new Uint8Array(length);
  let at = 0;
  return new Promise((resolve, reject) => {
    channel.addEventListener('close', () => reject(new Error(`the channel closed after ${at} bytes`)));
    channel.addEventListener('message', ({ data }) => {
      bytes.set(new Uint8Array(data), at);
      at += data.byteLength;
      if (at === length) resolve(bytes);
    });
  });
}

/** Sends random bytes from caller to callee over a data channel; both hashes are for the test to compare. */
async function transfer(length) {
  const peers = await twoPeers();
  try {
    const sending = peers.caller.createDataChannel('bytes');
    const incoming = next(peers.callee, 'datachannel').then(({ channel }) => receiveAll(channel, length));
    const opened = next(sending, 'open');
    await negotiate(peers);
    await Promise.all([connected(peers.caller), connected(peers.callee), opened]);
    const bytes = randomBytes(length);
    const [, received] = await Promise.all([sendAll(sending, bytes), incoming]);
    return {
      sent: await sha256(bytes),
      received: await sha256(received),
      pairs: [await selectedPair(peers.caller), await selectedPair(peers.callee)],
    };
  } finally {
    peers.caller.close();
    peers.callee.close();
  }
}

/** Sends the fake camera from caller to callee until `frames` frames are on the screen. */
async function video(frames) {
  const camera = await navigator.mediaDevices.getUserMedia({ video: { width: 320, height: 240, frameRate: 30 } });
  const peers = await twoPeers();
  try {
    peers.caller.addTrack(camera.getVideoTracks()[0], camera);
    const incoming = next(peers.callee, 'track');
    await negotiate(peers);
    const remote = document.querySelector('#remote');
    remote.srcObject = (await incoming).streams[0];
    await Promise.all([connected(peers.caller), connected(peers.callee)]);
    const shown = () => new Promise((resolve) => remote.requestVideoFrameCallback(resolve));
    let decoded = 0;
    while (decoded < frames) {
      await shown();
      const stats = [...(await peers.callee.getStats()).values()];
      decoded = stats.find((entry) => entry.type === 'inbound-rtp' && entry.kind === 'video')?.framesDecoded ?? 0;
    }
    return {
      decoded,
      size: [remote.videoWidth, remote.videoHeight],
      pairs: [await selectedPair(peers.caller), await selectedPair(peers.callee)],
    };
  } finally {
    camera.getTracks().forEach((track) => track.stop());
    peers.caller.close();
    peers.callee.close();
  }
}

/** Gathers to the end without a call: the candidates found, and the errors that the browser reports. */
async function gather() {
  const peer = new RTCPeerConnection(await relayOnly());
  try {
    const candidates = [];
    const errors = [];
    peer.addEventListener('icecandidateerror', ({ errorCode, errorText, url }) => {
      errors.push({ errorCode, errorText, url });
    });
    const complete = new Promise((resolve) => {
      peer.addEventListener('icecandidate', ({ candidate }) => {
        if (candidate) candidates.push(candidate.type);
        else resolve();
      });
    });
    peer.createDataChannel('none');
    await peer.setLocalDescription();
    await complete;
    return { candidates, errors };
  } finally {
    peer.close();
  }
}

Object.assign(window, { transfer, video, gather });
