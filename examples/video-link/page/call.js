// One call with one peer: perfect negotiation, tracks that come and go, and ICE restart when the way breaks.

/** Fires 'status' with the connection's state, and 'track' with each remote track. */
export class Call extends EventTarget {
  #connection;
  #signaling;
  #polite;
  #tracks; // what we send now: { audio, video }, each a track or null
  #makingOffer = false;
  #ignoringOffer = false;
  #restarting = false;
  #missed = false; // signals may have been lost since our last restart

  constructor({ signaling, configuration, polite, tracks }) {
    super();
    this.#signaling = signaling;
    this.#polite = polite;
    this.#tracks = tracks;
    this.#connection = new RTCPeerConnection(configuration);
    this.#connection.onicecandidate = ({ candidate }) => candidate && this.#signal({ candidate });
    this.#connection.onnegotiationneeded = () => this.#offer();
    this.#connection.ontrack = ({ track }) => this.#tell('track', track);
    this.#connection.onconnectionstatechange = () => this.#stateChanged();
    // The impolite side, who was here first, opens a line for each kind; the polite one takes those up.
    if (!polite) {
      for (const kind of ['audio', 'video']) this.#connection.addTransceiver(kind);
      this.#attach();
    }
  }

  /** Sends another track of this kind, or none: then the line turns one-way, and the other side is told by an offer. */
  async send(kind, track) {
    this.#tracks[kind] = track;
    await this.#attach();
  }

  async receive({ description, candidate }) {
    if (candidate) {
      return this.#connection.addIceCandidate(candidate).catch((error) => {
        if (!this.#ignoringOffer) throw error;
      });
    }
    const crossed = description.type === 'offer' && (this.#makingOffer || this.#connection.signalingState !== 'stable');
    this.#ignoringOffer = crossed && !this.#polite;
    if (this.#ignoringOffer) return;
    await this.#connection.setRemoteDescription(description); // takes our own offer back if it must
    if (description.type !== 'offer') return;
    await this.#attach();
    await this.#connection.setLocalDescription();
    this.#signal({ description: this.#connection.localDescription });
  }

  /** New candidates under fresh credentials: the old ones may have run out, and the old relay may be out of reach. */
  async restart({ missed = false } = {}) {
    this.#missed ||= missed; // also if this comes while a restart waits for its credentials
    if (this.#restarting) return;
    this.#restarting = true;
    try {
      this.#connection.setConfiguration(await this.#signaling.iceConfiguration());
      // An offer that got lost will not be answered, and would block the next one.
      const lost = this.#missed;
      this.#missed = false;
      if (lost && this.#connection.signalingState === 'have-local-offer') {
        await this.#connection.setLocalDescription({ type: 'rollback' });
      }
      this.#connection.restartIce();
    } catch (error) {
      if (this.#connection.signalingState !== 'closed') throw error;
    } finally {
      this.#restarting = false;
    }
  }

  close() {
    this.#connection.close();
  }

  async #offer() {
    try {
      this.#makingOffer = true;
      await this.#connection.setLocalDescription();
      this.#signal({ description: this.#connection.localDescription });
    } finally {
      this.#makingOffer = false;
    }
  }

  async #attach() {
    for (const transceiver of this.#connection.getTransceivers()) {
      const track = this.#tracks[transceiver.receiver.track.kind];
      const direction = track ? 'sendrecv' : 'recvonly';
      if (transceiver.direction !== direction) transceiver.direction = direction;
      await transceiver.sender.replaceTrack(track);
    }
  }

  #stateChanged() {
    const { connectionState } = this.#connection;
    this.#tell('status', connectionState);
    if (connectionState === 'disconnected' || connectionState === 'failed') this.restart();
  }

  #signal(message) {
    this.#signaling.send({ type: 'signal', ...message });
  }

  #tell(name, data) {
    this.dispatchEvent(new MessageEvent(name, { data }));
  }
}
