// A UDP forwarder that a test puts between the browser and the server: it changes nothing, and counts by kind
// what passes each way. It shows what was really on the wire without asking the server.

import dgram from 'node:dgram';
import { once } from 'node:events';

const SEND_INDICATION = 0x0016;
const DATA_INDICATION = 0x0017;
const REQUESTS = {
  0x0001: 'binding',
  0x0003: 'allocate',
  0x0004: 'refresh',
  0x0008: 'create-permission',
  0x0009: 'channel-bind',
};

/** `toServer` and `toClient` map a kind of datagram to how often it was seen. */
export class UdpTap {
  #front = dgram.createSocket('udp4');
  #backs = new Map();
  #server;

  static async start(server) {
    const tap = new UdpTap();
    tap.#server = server;
    tap.reset();
    tap.#front.on('message', (datagram, client) => tap.#forward(datagram, client));
    tap.#front.bind(0, '127.0.0.1');
    await once(tap.#front, 'listening');
    tap.address = `127.0.0.1:${tap.#front.address().port}`;
    return tap;
  }

  reset() {
    this.toServer = new Map();
    this.toClient = new Map();
  }

  stop() {
    for (const back of this.#backs.values()) back.close();
    this.#front.close();
  }

  // One socket towards the server per client address: the server must see as many clients as there are.
  #forward(datagram, client) {
    count(this.toServer, kind(datagram));
    const key = `${client.address}:${client.port}`;
    let back = this.#backs.get(key);
    if (back === undefined) {
      back = dgram.createSocket('udp4');
      back.on('message', (answer) => {
        count(this.toClient, kind(answer));
        this.#front.send(answer, client.port, client.address);
      });
      this.#backs.set(key, back);
    }
    const { host, port } = splitAddress(this.#server);
    back.send(datagram, port, host);
  }
}

/** RFC 8656 §12 figure 4: the first byte tells STUN from ChannelData. */
export function kind(datagram) {
  if (datagram.length < 4) return 'other';
  if (datagram[0] >= 0x40 && datagram[0] <= 0x7f) return 'channel-data';
  if (datagram[0] > 0x03) return 'other';
  const type = datagram.readUInt16BE(0);
  if (type === SEND_INDICATION) return 'send-indication';
  if (type === DATA_INDICATION) return 'data-indication';
  const method = REQUESTS[type & ~0x0110];
  const classes = { 0x0000: 'request', 0x0100: 'success', 0x0110: 'error' };
  return method === undefined ? 'other' : `${method}-${classes[type & 0x0110] ?? 'indication'}`;
}

function count(counts, name) {
  counts.set(name, (counts.get(name) ?? 0) + 1);
}

function splitAddress(address) {
  const colon = address.lastIndexOf(':');
  return { host: address.slice(0, colon), port: Number(address.slice(colon + 1)) };
}
