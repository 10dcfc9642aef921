// A socket.io server on 127.0.0.1:PORT, with a certificate over TLS: node socket_io_server.cjs [CERTIFICATE KEY] PORT
const { readFileSync } = require('node:fs');
const { Server } = require('socket.io');

const [certificate, key] = process.argv.slice(2, -1);
const server = certificate
  ? require('node:https').createServer({ cert: readFileSync(certificate), key: readFileSync(key) })
  : require('node:http').createServer();
const io = new Server(server, { path: '/chat/', maxHttpBufferSize: 10_000_000 });
io.on('connection', socket => {
  socket.on('echo', (message, answer) => answer(message));
  socket.on('count', (end, answer) => {
    for (let number = 0; number < end; number += 1) socket.emit('number', number);
    answer('done');
  });
});
server.listen(Number(process.argv.at(-1)), '127.0.0.1');
