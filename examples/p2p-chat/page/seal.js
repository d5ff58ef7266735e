// End-to-end encryption under the key that is in the link. WebRTC encrypts too, but between fingerprints that the
// signaling server passes on and could exchange; the part of a link behind the # never reaches a server.

const NONCE = 12;
const encoder = new TextEncoder();

export function newKey() {
  return [...crypto.getRandomValues(new Uint8Array(32))].map((byte) => byte.toString(16).padStart(2, '0')).join('');
}

/** Seals and opens what goes through one channel, in order: each piece fits only its place, sender and channel. */
export class Seal {
  #key;
  #channel;
  #side;
  #sent = 0;
  #received = 0;

  /** The two sides are named apart, so that nobody can send one's own words back to one. */
  constructor(key, channel, side) {
    this.#key = key;
    this.#channel = channel;
    this.#side = side;
  }

  static importKey(hex) {
    const bytes = Uint8Array.from(hex.match(/../g), (pair) => parseInt(pair, 16));
    return crypto.subtle.importKey('raw', bytes, 'AES-GCM', false, ['encrypt', 'decrypt']);
  }

  async seal(plain) {
    const iv = crypto.getRandomValues(new Uint8Array(NONCE));
    const sealed = await crypto.subtle.encrypt(this.#place(iv, this.#side, this.#sent++), this.#key, plain);
    const message = new Uint8Array(NONCE + sealed.byteLength);
    message.set(iv);
    message.set(new Uint8Array(sealed), NONCE);
    return message;
  }

  async open(message) {
    const iv = new Uint8Array(message, 0, NONCE);
    const from = this.#side === 'waiting' ? 'joining' : 'waiting';
    return crypto.subtle.decrypt(this.#place(iv, from, this.#received++), this.#key, new Uint8Array(message, NONCE));
  }

  #place(iv, side, count) {
    return { name: 'AES-GCM', iv, additionalData: encoder.encode(JSON.stringify([this.#channel, side, count])) };
  }
}
