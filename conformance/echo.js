// The echo server of the conformance run, npm's ws: nothing of it is ours. Prints its port.
//
// Its bounds on messages are off: group 9 sends 16 MiB at once, and 65,536 fragments in one message.
'use strict';
const { WebSocketServer } = require('ws');

const server = new WebSocketServer({
  host: '127.0.0.1',
  port: 0,
  perMessageDeflate: true,
  maxPayload: 0,
  maxFragments: 0,
  maxBufferedChunks: 0,
});
server.on('listening', () => console.log(server.address().port));
server.on('connection', (ws) => {
  ws.on('error', () => {}); // what it thinks of a broken session shows at the client
  ws.on('message', (data, binary) => ws.send(data, { binary }));
});
