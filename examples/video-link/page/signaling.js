// The WebSocket to our server. It comes back by itself, under the same member id, until it is closed for good.

const RETRY_MS = 1000;
const ANSWER_WITHIN_MS = 4000;
const FINAL = 4400; // close codes from here on are the server's no

export class Signaling extends EventTarget {
  #url;
  #socket;
  #closed = false;
  #askers = [];

  constructor(url) {
    super();
    this.#url = url;
    this.#open();
  }

  send(message) {
    if (this.#socket.readyState === WebSocket.OPEN) this.#socket.send(JSON.stringify(message));
  }

  /** Fresh ICE servers. Asks again on a new connection while the network is away; fails once closed. */
  async iceConfiguration() {
    for (;;) {
      if (this.#closed) throw new Error('the call has ended');
      this.send({ type: 'ice' });
      const answer = await new Promise((resolve) => {
        this.#askers.push(resolve);
        setTimeout(resolve, ANSWER_WITHIN_MS);
      });
      if (answer) return answer;
      this.#reopen();
    }
  }

  close() {
    this.send({ type: 'bye' });
    this.#closed = true;
    this.#socket.close();
  }

  #open() {
    const socket = new WebSocket(this.#url);
    this.#socket = socket;
    socket.onmessage = ({ data }) => {
      const message = JSON.parse(data);
      if (message.type === 'ice') this.#askers.splice(0).forEach((resolve) => resolve(message.configuration));
      else this.dispatchEvent(new MessageEvent('message', { data: message }));
    };
    socket.onopen = () => {
      // Whoever waits asked on the old connection, or on this one before it was open: that question went nowhere.
      if (this.#askers.length > 0) this.send({ type: 'ice' });
      this.dispatchEvent(new Event('open'));
    };
    socket.onclose = ({ code, reason }) => {
      if (socket !== this.#socket || this.#closed) return;
      if (code >= FINAL) {
        this.#closed = true;
        this.dispatchEvent(new MessageEvent('refused', { data: reason }));
      } else {
        setTimeout(() => this.#reopen(socket), RETRY_MS);
      }
    };
  }

  // A connection that lost its network may not notice for minutes: it is given up, not waited for.
  #reopen(old = this.#socket) {
    if (old !== this.#socket || this.#closed) return;
    this.#open();
    old.close();
  }
}
