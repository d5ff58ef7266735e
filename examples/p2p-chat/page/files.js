// Files over data channels, one channel per file: first its name and size, then its bytes, every message sealed.

const CHUNK = 64 * 1024 - 256; // with seal and nonce below the 64 KiB that every browser takes
const HIGH_WATER = 4 * 1024 * 1024;
const LOW_WATER = 1024 * 1024;
const LARGEST = 512 * 1024 * 1024; // what we are ready to hold in memory for somebody else

/** Calls `progress(bytes)` as the bytes leave. */
export async function sendFile(channel, seal, file, progress) {
  await event(channel, 'open');
  channel.binaryType = 'arraybuffer';
  channel.bufferedAmountLowThreshold = LOW_WATER;
  const confirmed = event(channel, 'message');
  confirmed.catch(() => {}); // awaited below, unless something fails before
  const { name, size } = file;
  channel.send(await seal.seal(new TextEncoder().encode(JSON.stringify({ name, size }))));
  for (let at = 0; at < size; at += CHUNK) {
    const bytes = await file.slice(at, at + CHUNK).arrayBuffer();
    if (channel.bufferedAmount > HIGH_WATER) await event(channel, 'bufferedamountlow');
    channel.send(await seal.seal(bytes));
    progress(at + bytes.byteLength - channel.bufferedAmount);
  }
  await seal.open((await confirmed).data); // whoever can seal this has it all
  channel.close();
}

/** Calls `begin({ name, size })` once, then `progress(bytes)`; resolves to the file, or fails if it is cut short. */
export async function receiveFile(channel, seal, begin, progress) {
  let head;
  let received = 0;
  const parts = [];
  for await (const message of messages(channel)) {
    const plain = await seal.open(message);
    if (!head) {
      head = JSON.parse(new TextDecoder().decode(plain));
      if (!(head.size >= 0 && head.size <= LARGEST)) throw new Error('The file is too large.');
      begin(head);
    } else {
      parts.push(plain);
      received += plain.byteLength;
      progress(received);
    }
    if (received > head.size) break;
    if (received === head.size) {
      channel.send(await seal.seal(new Uint8Array()));
      return new File(parts, String(head.name), { type: 'application/octet-stream' });
    }
  }
  throw new Error('The file did not arrive whole.');
}

/** The channel's messages in order, until it closes. */
async function* messages(channel) {
  const queue = [];
  let wake = () => {};
  channel.binaryType = 'arraybuffer';
  channel.onmessage = ({ data }) => (queue.push(data), wake());
  channel.onclose = () => (queue.push(undefined), wake());
  for (;;) {
    while (queue.length === 0) await new Promise((resolve) => (wake = resolve));
    const message = queue.shift();
    if (message === undefined) return;
    yield message;
  }
}

/** Resolves to the event; fails if the channel closes instead. */
function event(channel, name) {
  return new Promise((resolve, reject) => {
    if (name === 'open' && channel.readyState === 'open') return resolve();
    channel.addEventListener('close', () => reject(new Error('The connection closed.')), { once: true });
    channel.addEventListener(name, resolve, { once: true });
  });
}
