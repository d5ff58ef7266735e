// The one call that an app's server makes to Turnwell: it mints time-limited ICE servers for one of its users.
//
// Server only. The API key mints credentials for anybody, without end; a browser that had it would give away
// your relay. So it stays in this process, and the page gets what comes back: one user name and password, for an hour.

const API = process.env.TURNWELL_API ?? 'http://127.0.0.1:8478';
const KEY = process.env.TURNWELL_KEY;
const WITHIN_MS = 5000;

if (!KEY) {
  console.error('TURNWELL_KEY is not set. For a try: `turnwell dev --api-key example`, then `TURNWELL_KEY=example npm start`.');
  process.exit(78);
}

/**
 * Mints for `user`, an id of your own that tells one user from another in Turnwell's limits and logs.
 * The answer goes straight into `new RTCPeerConnection(answer)` or `setConfiguration(answer)`.
 */
export async function mintIceServers(user, ttl = 3600) {
  const response = await fetch(new URL('/v1/credentials', API), {
    method: 'POST',
    headers: { authorization: `Bearer ${KEY}`, 'content-type': 'application/json' },
    body: JSON.stringify({ user, ttl }),
    signal: AbortSignal.timeout(WITHIN_MS),
  });
  if (!response.ok) throw new Error(`Turnwell refused to mint: ${response.status} ${await response.text()}`);
  const { iceServers, iceTransportPolicy } = await response.json();
  return { iceServers, iceTransportPolicy };
}
