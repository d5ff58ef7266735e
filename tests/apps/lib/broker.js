// Stands between an app and Turnwell's HTTP API and narrows what comes back, so that an unchanged app can be
// tested over each of the URLs that Turnwell offers.

import { createServer } from 'node:http';
import { once } from 'node:events';

/** `minted` holds every answer that apps got; `narrow` is the change to the next ones. */
export class Broker {
  minted = [];
  narrow = (answer) => answer;
  #server;

  static async start(turnwell) {
    const broker = new Broker();
    broker.apiKey = turnwell.apiKey;
    broker.#server = createServer(async (request, response) => {
      try {
        const body = Buffer.concat(await request.toArray());
        const { method, url, headers: { authorization, 'content-type': type } } = request;
        const answer = await fetch(turnwell.api + url, { method, headers: { authorization, 'content-type': type }, body });
        const content = await answer.json();
        const narrowed = answer.ok ? broker.narrow(content) : content;
        if (answer.ok) broker.minted.push(narrowed);
        response.writeHead(answer.status, { 'content-type': 'application/json' }).end(JSON.stringify(narrowed));
      } catch (error) {
        response.writeHead(502).end(String(error));
      }
    });
    broker.#server.listen(0, '127.0.0.1');
    await once(broker.#server, 'listening');
    broker.api = `http://127.0.0.1:${broker.#server.address().port}`;
    return broker;
  }

  /** From here on apps get no more than this way offers. */
  use(way) {
    this.narrow = way.narrow;
  }

  stop() {
    this.#server.close();
    this.#server.closeAllConnections();
  }
}

const RELAYED = ['udp', 'tcp', 'tls'];

/** How many `waysOf` tells at most: what a test that goes them one after the other has to have time for. */
export const MOST_WAYS = 1 + RELAYED.length;

/** All candidates first; then relay only over each transport that Turnwell itself offers. */
export async function waysOf(turnwell) {
  const offered = turnEntry(await turnwell.mint({ user: 'ways' })).urls.map(transport);
  const relayed = RELAYED.filter((name) => offered.includes(name)).map((name) => ({
    name: `relay only over ${name.toUpperCase()}`,
    relayProtocol: name,
    narrow(answer) {
      const turn = turnEntry(answer);
      const urls = turn.urls.filter((url) => transport(url) === name);
      return { ...answer, iceServers: [{ ...turn, urls }], iceTransportPolicy: 'relay' };
    },
  }));
  return [{ name: 'all candidates', narrow: (answer) => answer }, ...relayed];
}

export function turnEntry(answer) {
  return answer.iceServers.find((entry) => 'credential' in entry);
}

function transport(url) {
  if (url.startsWith('turns:')) return 'tls';
  return /[?&]transport=tcp$/.test(url) ? 'tcp' : 'udp';
}
