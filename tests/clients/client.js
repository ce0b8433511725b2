// A client of npm's ws that tries everything against the server behind the URL. Prints `all is well`.
'use strict';
const assert = require('node:assert');
const { randomBytes } = require('node:crypto');
const { once } = require('node:events');
const WebSocket = require('ws');

const url = process.argv[2];
setTimeout(() => { console.error('not done within 30 s'); process.exit(1); }, 30000).unref();

async function next(ws) {
  const [data, binary] = await once(ws, 'message');
  return binary ? data : data.toString();
}

async function ask(ws, message) {
  const answer = next(ws);
  ws.send(message);
  return answer;
}

async function main() {
  let ws = new WebSocket(url, ['chat', 'superchat']);
  await once(ws, 'open');
  assert.strictEqual(ws.protocol, 'superchat');
  assert.strictEqual(await ask(ws, 'protocol?'), 'superchat');
  assert.match(ws.extensions, /permessage-deflate/);
  assert.match(await ask(ws, 'extensions?'), /permessage-deflate/);
  assert.strictEqual(await ask(ws, 'grüß dich'), 'grüß dich');
  assert.strictEqual(await ask(ws, ''), '');
  assert.strictEqual(await ask(ws, 'ab'.repeat(50000)), 'ab'.repeat(50000));
  const noise = randomBytes(1 << 20);
  assert.ok(noise.equals(await ask(ws, noise)), '1 MiB changed on its way');
  let answer = next(ws);
  ws.send('three ', { fin: false });
  ws.send('fragments ', { fin: false });
  ws.send('here', { fin: true });
  assert.strictEqual(await answer, 'three fragments here');
  assert.strictEqual(await ask(ws, 'fragments!'), 'one two three');
  const pong = once(ws, 'pong');
  ws.ping('from the client');
  assert.strictEqual((await pong)[0].toString(), 'from the client');
  assert.strictEqual(await ask(ws, 'ping!'), 'ponged');
  let closed = once(ws, 'close');
  ws.close(4001, 'enough');
  assert.strictEqual((await closed)[0], 4001);

  ws = new WebSocket(url, [], { perMessageDeflate: false });
  await once(ws, 'open');
  assert.strictEqual(ws.protocol, '');
  assert.strictEqual(ws.extensions, '');
  let last = '0'; // until the server has got to it
  while (last === '0') last = await ask(ws, 'last?');
  assert.strictEqual(last, '4001');
  assert.strictEqual(await ask(ws, 'plain'), 'plain');
  closed = once(ws, 'close');
  ws.send('close! 4002');
  const [code, reason] = await closed;
  assert.strictEqual(code, 4002);
  assert.strictEqual(reason.toString(), 'as you wish');
  console.log('all is well');
}

main().catch((error) => { console.error(error); process.exit(1); });
