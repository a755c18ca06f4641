/**
 * One process without privileges that makes an observer of its connections hold as much as it can: `node memory-attack.mjs CASE`. Beside it, on
 * a connection of its own, one request after the other, each answered: GET /ok/N.
 *
 * It says a line of JSON when it is done, { ok: how many of those requests }, and waits for the end of its standard input.
 */
import { once } from 'node:events';
import { Agent, createServer as createHttpServer, get } from 'node:http';
import { connect, createServer } from 'node:net';
import { setTimeout as sleep } from 'node:timers/promises';

const BYTES_PER_MS = 6 * 1024;
const sockets = [];
let paced = 0;

/** Sends no faster than a reader of a busy machine reads. */
async function send(socket, bytes) {
  if (!socket.write(bytes)) await once(socket, 'drain');
  paced += bytes.length;
  if (paced < 256 * 1024) return;
  await sleep(paced / BYTES_PER_MS);
  paced = 0;
}

async function serve(onConnection) {
  const server = createServer((socket) => {
    sockets.push(socket);
    socket.on('error', () => {});
    onConnection(socket);
  });
  server.listen(0, '127.0.0.1');
  await once(server, 'listening');
  return async () => {
    const socket = connect(server.address().port, '127.0.0.1');
    sockets.push(socket);
    socket.on('error', () => {});
    await once(socket, 'connect');
    return socket;
  };
}

/** A server that reads, and says nothing. */
const mute = () => serve((socket) => socket.resume());

const frame = (type, flags, stream, payload) => {
  const head = Buffer.alloc(9);
  head.writeUIntBE(payload.length, 0, 3);
  head[3] = type;
  head[4] = flags;
  head.writeUInt32BE(stream, 5);
  return Buffer.concat([head, payload]);
};
const preface = Buffer.concat([Buffer.from('PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n'), frame(4, 0, 0, Buffer.alloc(0))]);

/** A string of HPACK (RFC 7541 section 5.2), not compressed. */
function hpackString(text) {
  let length = text.length - 127;
  const bytes = [127];
  for (; length >= 128; length = Math.floor(length / 128)) bytes.push((length % 128) | 128);
  return Buffer.concat([Buffer.from([...bytes, length]), Buffer.from(text)]);
}

/** A message of PostgreSQL. */
function message(type, ...parts) {
  const body = Buffer.concat(parts.map((part) => (typeof part === 'string' ? Buffer.from(`${part}\0`) : part)));
  const head = Buffer.alloc(5);
  head.write(type);
  head.writeInt32BE(body.length + 4, 1);
  return Buffer.concat([head, body]);
}

const ready = message('Z', Buffer.from('I'));

/** A server of PostgreSQL that accepts everything at once. */
async function postgres() {
  const open = await serve((socket) => {
    let begun = false;
    let rest = Buffer.alloc(0);
    socket.on('data', (data) => {
      rest = Buffer.concat([rest, data]);
      const answers = [];
      while (rest.length >= 5) {
        const size = begun ? 1 + rest.readInt32BE(1) : rest.readInt32BE(0);
        if (rest.length < size) break;
        const type = String.fromCharCode(rest[0]);
        if (!begun) answers.push(message('R', Buffer.alloc(4)), ready);
        else if (type === 'P') answers.push(message('1'));
        else if (type === 'S') answers.push(ready);
        else if (type === 'Q') answers.push(message('C', 'SELECT 0'), ready);
        begun = true;
        rest = rest.subarray(size);
      }
      if (answers.length > 0) socket.write(Buffer.concat(answers));
    });
  });
  return async () => {
    const socket = await open();
    const startup = Buffer.from('\0\0\0\0\0\x03\0\0user\0u\0\0', 'latin1');
    startup.writeInt32BE(startup.length, 0);
    socket.write(startup);
    await once(socket, 'data');
    socket.resume();
    return socket;
  };
}

const cases = {
  /** Connections that each send 1 MB of a header's line, and wait. */
  async heads() {
    const open = await mute();
    for (let i = 0; i < 250; i++) {
      const socket = await open();
      await send(socket, Buffer.from(`GET / HTTP/1.1\r\nHost: x\r\nX: ${'a'.repeat(1_000_000)}`));
    }
  },
  /** One connection, requests that are not answered, with targets of 64 KB. */
  async pipe() {
    const socket = await (await mute())();
    for (let i = 0; i < 3600; i++) {
      await send(socket, Buffer.from(`GET /${i}/${'a'.repeat(64_000)} HTTP/1.1\r\nHost: x\r\n\r\n`));
    }
  },
  /** Header blocks of HTTP/2 that never end. */
  async h2cont() {
    const open = await mute();
    for (let i = 0; i < 250; i++) {
      const socket = await open();
      await send(socket, Buffer.concat([preface, frame(1, 1, 1, Buffer.from([0x82, 0x86, 0x84]))]));
      for (let n = 0; n < 60; n++) await send(socket, frame(9, 0, 1, Buffer.alloc(16_000, 0x20)));
    }
  },
  /** Thousands of streams that stay open, each with fields of 8 KB that are kept. */
  async h2streams() {
    const open = await mute();
    for (let i = 0; i < 25; i++) {
      const socket = await open();
      await send(socket, preface);
      for (let n = 0; n < 1200; n++) {
        const path = hpackString(`/${i}/${n}/${'p'.repeat(4000)}`);
        const agent = hpackString(`${i}-${n}-${'u'.repeat(4000)}`);
        // :method GET, :scheme http, :path and user-agent as literals without indexing.
        const block = Buffer.concat([Buffer.from([0x82, 0x86, 0x04]), path, Buffer.from([0x0f, 0x2b]), agent]);
        await send(socket, frame(1, 4, 2 * n + 1, block));
      }
    }
  },
  /** Prepared statements with texts of 2 KB, no two of them alike. */
  async pgprep() {
    const open = await postgres();
    for (let i = 0; i < 50; i++) {
      const socket = await open();
      for (let n = 0; n < 2500; n++) {
        const text = `SELECT c${n} FROM t${i}_${n} WHERE ${'x'.repeat(1900)} = $1`;
        await send(socket, message('P', `s${n}`, text, Buffer.alloc(2)));
      }
      await send(socket, message('S'));
    }
  },
  /** Texts of 8 KB with many statements, each sent twice. */
  async pgcache() {
    const socket = await (await postgres())();
    for (let n = 0; n < 1500; n++) {
      const statement = `SELECT c${n} FROM t${n} WHERE ${'x'.repeat(250)};`;
      const text = statement.repeat(Math.floor(8000 / statement.length));
      for (let twice = 0; twice < 2; twice++) await send(socket, message('Q', text));
    }
  },
};

let ok = 0;
let over = false;

/** What must come out exact, whatever happens beside it. */
async function others() {
  const server = createHttpServer((_request, response) => response.end('ok'));
  server.keepAliveTimeout = 0;
  server.listen(0, '127.0.0.1');
  await once(server, 'listening');
  const agent = new Agent({ keepAlive: true, maxSockets: 1 });
  while (!over) {
    const request = get({ port: server.address().port, host: '127.0.0.1', path: `/ok/${ok}`, agent });
    const [response] = await once(request, 'response');
    response.resume();
    await once(response, 'end');
    ok++;
    await sleep(10);
  }
}

const watching = others();
await sleep(500);
await cases[process.argv[2]]();
await sleep(1000);
over = true;
await watching;
process.stdout.write(`${JSON.stringify({ ok })}\n`);
process.stdin.resume();
await once(process.stdin, 'end');
process.exit(0);
