// Talks to an echo through a proxy and says ok: node echo_client.cjs URL
const assert = require('node:assert');
const { once } = require('node:events');
const { randomBytes } = require('node:crypto');
const WebSocket = require('ws');

async function main() {
  const socket = new WebSocket(process.argv[2], { maxPayload: 0 });
  await once(socket, 'open');
  for (const message of [Buffer.from('hello'), Buffer.alloc(0), randomBytes(100_000), Buffer.alloc(1_000_000, 'x')]) {
    socket.send(message);
    const [data] = await once(socket, 'message');
    assert(message.equals(data), 'not what was sent');
  }
  socket.ping('p');
  const [pong] = await once(socket, 'pong');
  assert.equal(String(pong), 'p');
  socket.close(1000, 'done');
  const [code] = await once(socket, 'close');
  assert.equal(code, 1000);
  console.log('ok');
}

setTimeout(() => { throw new Error('too slow'); }, 60_000).unref();
main().catch(error => { console.error(error); process.exit(1); });
