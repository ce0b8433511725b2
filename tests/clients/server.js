// A server of npm's ws: echoes, and does what a few texts ask for. Prints its port.
'use strict';
const { WebSocketServer } = require('ws');

let last = 0;
const server = new WebSocketServer({
  host: '127.0.0.1',
  port: 0,
  perMessageDeflate: true,
  handleProtocols: (offered) => (offered.has('superchat') ? 'superchat' : false),
});
server.on('listening', () => console.log(server.address().port));
server.on('connection', (ws) => {
  ws.on('error', () => {}); // a broken session shows at the client
  ws.on('close', (code) => { last = code; });
  ws.on('message', (data, binary) => {
    const text = binary ? null : data.toString();
    if (text === 'protocol?') ws.send(ws.protocol);
    else if (text === 'extensions?') ws.send(ws.extensions || 'none');
    else if (text === 'last?') ws.send(String(last));
    else if (text === 'ping!') {
      ws.once('pong', () => ws.send('ponged'));
      ws.ping('from the server');
    } else if (text === 'fragments!') {
      ws.send('one ', { fin: false });
      ws.send('two ', { fin: false });
      ws.send('three', { fin: true });
    } else if (text !== null && text.startsWith('close! ')) ws.close(Number(text.split(' ')[1]), 'as you wish');
    else ws.send(data, { binary });
  });
});
