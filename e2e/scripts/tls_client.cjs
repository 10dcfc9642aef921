// Opens a tunnel over TLS for each line of JSON with Node ws, and answers with a line: node tls_client.cjs
// The questions and answers are those of tls_client.py.
const assert = require('node:assert');
const { once } = require('node:events');
const { readFileSync } = require('node:fs');
const https = require('node:https');
const readline = require('node:readline');
const WebSocket = require('ws');

let kept;

function settings(question) {
  const made = { ca: readFileSync(question.ca) };
  if (question.certificate) {
    made.cert = readFileSync(question.certificate);
    made.key = readFileSync(question.key);
  }
  if (question.rsa) made.sigalgs = 'rsa_pss_rsae_sha256:rsa_pkcs1_sha256';
  return made;
}

async function ask(question) {
  // An agent keeps sessions for those who come after.
  const agent = question.resume && kept ? kept : new https.Agent({ ...settings(question), keepAlive: false });
  const socket = new WebSocket(question.url, { agent, maxPayload: 0, handshakeTimeout: 20_000 });
  let status;
  let name;
  socket.on('upgrade', response => {
    name = response.socket.getPeerCertificate().subject?.CN;
  });
  await new Promise((resolve, reject) => {
    socket.on('open', () => {
      status = 101;
      resolve();
    });
    socket.on('unexpected-response', (request, response) => {
      status = response.statusCode;
      request.destroy();
      resolve();
    });
    socket.on('error', reject);
  });
  if (status !== 101) return { status };
  for (const message of [Buffer.from('hello'), Buffer.alloc(0), Buffer.alloc(100_000, 'x'), Buffer.alloc(500_000)]) {
    socket.send(message);
    const [data] = await once(socket, 'message');
    assert(message.equals(data), 'not what was sent');
  }
  socket.close(1000);
  await once(socket, 'close');
  kept = agent;
  return { status, name };
}

async function main() {
  for await (const line of readline.createInterface({ input: process.stdin })) {
    const late = setTimeout(() => { throw new Error(`too slow: ${line}`); }, 60_000);
    console.log(JSON.stringify(await ask(JSON.parse(line))));
    clearTimeout(late);
  }
}

main().catch(error => { console.error(error); process.exit(1); });
