// An echo server on 127.0.0.1:PORT with Node ws, with a certificate over TLS: node echo_server.cjs [CERTIFICATE KEY] PORT
const { readFileSync } = require('node:fs');
const { WebSocketServer } = require('ws');

const [certificate, key] = process.argv.slice(2, -1);
const http = certificate
  ? require('node:https').createServer({ cert: readFileSync(certificate), key: readFileSync(key) })
  : require('node:http').createServer();
const server = new WebSocketServer({ server: http, perMessageDeflate: true });
server.on('connection', socket => {
  socket.on('message', (data, binary) => socket.send(data, { binary }));
});
http.listen(Number(process.argv.at(-1)), '127.0.0.1');
