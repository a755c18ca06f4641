/**
 * `node websocket.mjs BASE JSON`: opens WebSocket connections, all at once, and says how they ended: a list of close codes, or of the status of
 * a refusal. JSON: a list of {path, sizes, binary, pings, code, terminate, headers, builtIn}: messages of these sizes are sent one by one, each when
 * the answer to the one before is there; then the connection is closed with that code, without one (0), or torn down. A BASE of `h2:` or `h2s:`
 * has them all on one connection of HTTP/2.
 */
import http2 from 'node:http2';
import WebSocket from 'ws';

const [base, json] = process.argv.slice(2);

function content(size, binary) {
  return binary ? Buffer.alloc(size, 7) : 'x'.repeat(size);
}

/** Node's own client, which cannot be told to do everything. */
function talkBuiltIn({ path, sizes, code }) {
  return new Promise((resolve) => {
    const socket = new globalThis.WebSocket(base + path);
    let sent = 0;
    const next = () => {
      if (sent < sizes.length) socket.send(content(sizes[sent++], false));
      else socket.close(code);
    };
    socket.onopen = next;
    socket.onmessage = next;
    socket.onerror = () => {};
    socket.onclose = (event) => resolve(event.code);
  });
}

/** Sends what was asked for, and resolves with the close code. */
function talkOver(socket, { sizes = [], binary = false, pings = false, code = 1000, terminate = false }, resolve) {
  let sent = 0;
  const next = () => {
    if (sent < sizes.length) {
      if (pings) socket.ping('are you there');
      socket.send(content(sizes[sent++], binary));
    } else if (terminate) socket.terminate();
    else if (code === 0) socket.close();
    else socket.close(code);
  };
  socket.on('open', next);
  socket.on('message', next);
  socket.on('error', () => {});
  socket.on('close', resolve);
}

function talk(task) {
  return new Promise((resolve) => {
    const socket = new WebSocket(base + task.path, { rejectUnauthorized: false, headers: task.headers ?? {} });
    socket.on('unexpected-response', (_request, response) => {
      response.resume();
      resolve(response.statusCode);
    });
    talkOver(socket, task, resolve);
  });
}

/** A frame of a client (RFC 6455 section 5.2), whole, with a mask that changes nothing. */
function clientFrame(opcode, payload) {
  const { length } = payload;
  const head = Buffer.alloc(14);
  head[0] = 0x80 | opcode;
  let at = 2;
  if (length < 126) head[1] = 0x80 | length;
  else if (length < 65_536) {
    head[1] = 0x80 | 126;
    at += head.writeUInt16BE(length, 2) - 2;
  } else {
    head[1] = 0x80 | 127;
    at += head.writeBigUInt64BE(BigInt(length), 2) - 2;
  }
  return Buffer.concat([head.subarray(0, at + 4), payload]);
}

/** Calls back for each frame of a server. */
function readFrames(stream, onFrame) {
  let bytes = Buffer.alloc(0);
  stream.on('data', (chunk) => {
    bytes = Buffer.concat([bytes, chunk]);
    while (bytes.length >= 2) {
      const short = bytes[1] & 0x7f;
      const head = short < 126 ? 2 : short === 126 ? 4 : 10;
      if (bytes.length < head) return;
      const length = short < 126 ? short : short === 126 ? bytes.readUInt16BE(2) : Number(bytes.readBigUInt64BE(2));
      if (bytes.length < head + length) return;
      onFrame(bytes[0] & 0x0f, (bytes[0] & 0x80) !== 0, bytes.subarray(head, head + length));
      bytes = bytes.subarray(head + length);
    }
  });
}

const CLOSE = 8;
const PING = 9;
const PONG = 10;

/** By hand: the package ws cannot be the client of a stream. */
function talkOnStream(stream, { sizes, binary = false, pings = false, code = 1000 }, resolve) {
  let sent = 0;
  const next = () => {
    if (pings) stream.write(clientFrame(PING, Buffer.from('are you there')));
    if (sent < sizes.length) stream.write(clientFrame(binary ? 2 : 1, Buffer.alloc(sizes[sent++], 120)));
    else stream.write(clientFrame(CLOSE, Buffer.from([code >> 8, code & 0xff])));
  };
  readFrames(stream, (opcode, fin, payload) => {
    if (opcode === PING) stream.write(clientFrame(PONG, payload));
    else if (opcode === CLOSE) {
      stream.end();
      resolve(payload.readUInt16BE(0));
    } else if (opcode < CLOSE && fin) next();
  });
  next();
}

async function overHttp2(tasks) {
  const session = http2.connect(base.replace(/^h2/, 'http'), { rejectUnauthorized: false });
  session.on('error', () => {});
  await new Promise((resolve) => session.on('remoteSettings', resolve));
  const one = (task) =>
    new Promise((resolve) => {
      const { path, headers = {} } = task;
      const connect = { ':method': 'CONNECT', ':protocol': 'websocket', ':path': path, ...headers };
      const stream = session.request(connect, { endStream: false });
      stream.on('error', () => {});
      stream.on('close', () => resolve(1006));
      stream.on('response', ({ ':status': status }) => {
        if (status === 200) talkOnStream(stream, task, resolve);
        else resolve(status);
      });
    });
  const ends = await Promise.all(tasks.map(one));
  session.close();
  return ends;
}

const tasks = JSON.parse(json);
const each = (task) => (task.builtIn ? talkBuiltIn(task) : talk(task));
console.log(JSON.stringify(await (base.startsWith('h2') ? overHttp2(tasks) : Promise.all(tasks.map(each)))));
