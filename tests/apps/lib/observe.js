// What a test sees of an app's calls: the app is not changed, its RTCPeerConnections are listed as they are made.

import assert from 'node:assert/strict';

const EVERY_MS = 150;
const WITHIN_MS = 30_000;

/** A page of its own user (own cookies and storage), whose calls can be observed. */
export async function openPage(browser, url, options = {}) {
  const context = await browser.newContext({ permissions: ['camera', 'microphone'], ...options });
  const page = await context.newPage();
  await page.addInitScript(listConnections);
  page.errors = [];
  page.on('pageerror', (error) => page.errors.push(error.message));
  page.on('console', (message) => message.type() === 'error' && page.errors.push(message.text()));
  await page.goto(url);
  return page;
}

/** One entry per connection that is not closed: its state, its selected pair, and what it has received. */
export function calls(page) {
  return page.evaluate(report);
}

/** Asks until `accept` says yes of the answer, and fails with the last answer when the time is up. */
export async function until(ask, accept, what, within = WITHIN_MS) {
  const deadline = Date.now() + within;
  for (;;) {
    const answer = await ask();
    if (accept(answer)) return answer;
    if (Date.now() > deadline) assert.fail(`not within ${within} ms: ${what}; last: ${JSON.stringify(answer)}`);
    await new Promise((resolve) => setTimeout(resolve, EVERY_MS));
  }
}

/** Waits until `count` calls are connected and each brings new sound, and pictures if there is video. */
export async function mediaFlows(page, { count = 1, video = true, audio = true, frames = 15 } = {}) {
  const before = new Map((await calls(page)).map((call) => [call.id, call]));
  const flows = (call) => {
    const was = before.get(call.id);
    return call.state === 'connected' && call.pair
      && (!audio || call.audioEnergy > (was?.audioEnergy ?? 0))
      && (!video || call.framesDecoded >= (was?.framesDecoded ?? 0) + frames);
  };
  return until(() => calls(page), (now) => now.filter(flows).length === count && now.length === count, `${count} calls with media`);
}

/** With all candidates any pair will do; relay only means relayed at both ends, over the transport asked for. */
export function assertPairs(now, way) {
  for (const { pair } of now) {
    if (!way.relayProtocol) continue;
    assert.deepEqual(pair, { local: 'relay', remote: 'relay', relayProtocol: way.relayProtocol }, way.name);
  }
}

function listConnections() {
  const Native = window.RTCPeerConnection;
  window.observed = [];
  window.RTCPeerConnection = class RTCPeerConnection extends Native {
    constructor(...args) {
      super(...args);
      window.observed.push(this);
    }
  };
}

async function report() {
  const live = window.observed.map((connection, id) => ({ connection, id }))
    .filter(({ connection }) => connection.connectionState !== 'closed');
  return Promise.all(live.map(async ({ connection, id }) => {
    const stats = await connection.getStats();
    const all = [...stats.values()];
    const inbound = (kind, member) => all
      .filter((entry) => entry.type === 'inbound-rtp' && entry.kind === kind)
      .reduce((sum, entry) => sum + (entry[member] ?? 0), 0);
    const selected = stats.get(all.find((entry) => entry.type === 'transport')?.selectedCandidatePairId);
    const local = stats.get(selected?.localCandidateId);
    const remote = stats.get(selected?.remoteCandidateId);
    return {
      id,
      state: connection.connectionState,
      pair: local && remote && {
        local: local.candidateType,
        remote: remote.candidateType,
        ...(local.relayProtocol && { relayProtocol: local.relayProtocol }),
      },
      ufrag: /a=ice-ufrag:(\S+)/.exec(connection.localDescription?.sdp)?.[1],
      usernames: connection.getConfiguration().iceServers.map((server) => server.username).filter(Boolean),
      audioEnergy: inbound('audio', 'totalAudioEnergy'),
      framesDecoded: inbound('video', 'framesDecoded'),
    };
  }));
}
