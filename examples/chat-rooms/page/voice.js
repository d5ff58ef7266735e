// A voice mesh with PeerJS: everybody in the channel has one call with everybody else.
// The newcomer calls those who are there already; they answer once the server has told them of the newcomer.

import { Peer } from 'peerjs';

export class Voice {
  #peer;
  #microphone;
  #calls = new Map(); // peer id → MediaConnection
  #waiting = new Map(); // calls from peers that the server has not told us of yet
  #members = new Set();
  #changed;
  #streams = new Map();

  /** `fetchIce` asks our server for ICE servers; `changed` gets a Map of peer id → MediaStream. */
  static async open(fetchIce, changed) {
    const voice = new Voice();
    voice.#changed = changed;
    voice.fetchIce = fetchIce;
    voice.#microphone = await navigator.mediaDevices.getUserMedia({ audio: true });
    try {
      await voice.#register();
      return voice;
    } catch (error) {
      voice.close();
      throw error;
    }
  }

  get id() {
    return this.#peer.id;
  }

  /** Who is in the channel now, as the server says. */
  setMembers(ids) {
    this.#members = new Set(ids);
    for (const [id, call] of this.#calls) if (!this.#members.has(id)) call.close();
    for (const [id, call] of this.#waiting) if (this.#members.has(id)) this.#answer(call);
  }

  call(ids) {
    for (const id of ids) this.#keep(this.#peer.call(id, this.#microphone), true);
  }

  mute(yes) {
    for (const track of this.#microphone.getTracks()) track.enabled = !yes;
  }

  close() {
    this.#members.clear();
    this.#peer?.destroy();
    for (const track of this.#microphone.getTracks()) track.stop();
  }

  async #register() {
    const secure = location.protocol === 'https:';
    this.#peer = new Peer({
      host: location.hostname,
      port: Number(location.port) || (secure ? 443 : 80),
      path: '/peerjs',
      secure,
      // Without this PeerJS would use public servers of its own.
      config: await this.fetchIce(),
    });
    this.#peer.on('call', (call) => {
      if (this.#members.has(call.peer)) this.#answer(call);
      else this.#waiting.set(call.peer, call);
    });
    this.#peer.on('disconnected', () => !this.#peer.destroyed && this.#peer.reconnect());
    await new Promise((resolve, reject) => {
      this.#peer.once('open', resolve);
      this.#peer.once('error', reject);
    });
    this.#peer.on('error', (error) => console.warn(error.message)); // a peer that left while we called it
  }

  #answer(call) {
    this.#waiting.delete(call.peer);
    this.#keep(call, false);
    call.answer(this.#microphone);
  }

  #keep(call, outgoing) {
    const id = call.peer;
    this.#calls.set(id, call);
    call.on('stream', (stream) => this.#show(id, stream));
    call.on('close', async () => {
      if (this.#calls.get(id) !== call) return;
      this.#calls.delete(id);
      this.#show(id, undefined);
      // The way broke, and both are still here: who called calls again, with fresh credentials.
      if (!outgoing || !this.#members.has(id)) return;
      this.#peer.options.config = await this.fetchIce();
      if (this.#members.has(id) && !this.#calls.has(id)) this.call([id]);
    });
  }

  #show(id, stream) {
    if (stream) this.#streams.set(id, stream);
    else this.#streams.delete(id);
    this.#changed(new Map(this.#streams));
  }
}
