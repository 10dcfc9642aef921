// Talks to socket_io_server.cjs for each line of JSON and answers with a line: node socket_io_client.cjs
// To the questions of tls_client.py comes `transports`: ["polling", "websocket"] begins with requests and upgrades, ["websocket"]
// needs the handshake to get through. The answer has the transport that was used in the end.
const assert = require('node:assert');
const { once } = require('node:events');
const { readFileSync } = require('node:fs');
const https = require('node:https');
const readline = require('node:readline');
const { io } = require('socket.io-client');

let kept;

function settings(question) {
  if (!question.ca) return undefined;
  if (question.resume && kept) return kept;
  const made = { ca: readFileSync(question.ca), keepAlive: false };
  if (question.certificate) {
    made.cert = readFileSync(question.certificate);
    made.key = readFileSync(question.key);
  }
  if (question.rsa) made.sigalgs = 'rsa_pss_rsae_sha256:rsa_pkcs1_sha256';
  return new https.Agent(made);
}

async function ask(question) {
  const agent = settings(question);
  const url = new URL(question.url);
  const socket = io(url.origin.replace(/^ws/, 'http'), {
    path: url.pathname,
    query: Object.fromEntries(url.searchParams),
    transports: question.transports ?? ['websocket'],
    agent,
    forceNew: true,
    reconnection: false,
    timeout: 20_000,
  });
  let status = 101;
  await new Promise(resolve => {
    socket.on('connect', resolve);
    socket.on('connect_error', error => {
      // A request that was refused says how; a handshake's error has it in words.
      const said = /\b(4\d\d)\b/.exec(error.context?.status ?? error.description?.message ?? '');
      status = said ? Number(said[1]) : String(error.description?.message ?? error);
      resolve();
    });
  });
  if (status !== 101) {
    socket.close();
    return { status };
  }
  const { engine } = socket.io;
  const upgrades = question.transports?.length === 2;
  if (upgrades && engine.transport.name !== 'websocket') await new Promise(resolve => engine.once('upgrade', resolve));
  for (const message of ['hello', '', 'ä'.repeat(1000), Buffer.alloc(100_000, 'x')]) {
    const answer = await socket.timeout(20_000).emitWithAck('echo', message);
    assert.deepStrictEqual(answer, message);
  }
  // What the server says by itself, many at once and in order.
  const counted = [];
  socket.on('number', number => counted.push(number));
  assert.equal(await socket.timeout(20_000).emitWithAck('count', 500), 'done');
  assert.deepStrictEqual(counted, [...Array(500).keys()]);
  const transport = engine.transport.name;
  socket.close();
  kept = agent;
  return { status, transport };
}

async function main() {
  for await (const line of readline.createInterface({ input: process.stdin })) {
    const late = setTimeout(() => { throw new Error(`too slow: ${line}`); }, 60_000);
    console.log(JSON.stringify(await ask(JSON.parse(line))));
    clearTimeout(late);
  }
}

main().catch(error => { console.error(error); process.exit(1); });
