// An echo server on 127.0.0.1:PORT with Node ws: node echo_server.cjs PORT
const { WebSocketServer } = require('ws');

const server = new WebSocketServer({ host: '127.0.0.1', port: Number(process.argv[2]), perMessageDeflate: true });
server.on('connection', socket => {
  socket.on('message', (data, binary) => socket.send(data, { binary }));
});
