/** `node http2-server.mjs HOST PORT [CERT KEY]`: see servers.ts. Says `listening PORT`, then a line of JSON per answer. */
import { readFileSync } from 'node:fs';
import http2 from 'node:http2';
import { connect } from 'node:net';

const [host, port, cert, key] = process.argv.slice(2);
const options = { maxSessionMemory: 1000, settings: { maxConcurrentStreams: 100_000, maxHeaderListSize: 1 << 20 } };
const server = cert
  ? http2.createSecureServer({ ...options, cert: readFileSync(cert), key: readFileSync(key) })
  : http2.createServer(options);

let gathered = [];
const refused = new Map();

function finish(stream, headers, status, body) {
  if (stream.destroyed) return;
  console.log(JSON.stringify({ method: headers[':method'], target: headers[':path'], status, bodyBytes: body.length }));
  stream.respond({ ':status': status, 'content-type': 'text/plain' });
  stream.end(body);
}

/** A tunnel (RFC 9113 section 8.5). */
function tunnel(stream, authority) {
  const [, host, port] = /^(.*):(\d+)$/.exec(authority);
  const socket = connect(Number(port), host, () => {
    console.log(JSON.stringify({ method: 'CONNECT', target: authority, status: 200, bodyBytes: 0 }));
    stream.respond({ ':status': 200 });
    stream.pipe(socket);
    socket.pipe(stream);
  });
  socket.on('error', () => stream.close());
  stream.on('close', () => socket.destroy());
}

server.on('stream', (stream, headers) => {
  stream.on('error', () => {});
  if (headers[':method'] === 'CONNECT') {
    tunnel(stream, headers[':authority']);
    return;
  }
  const [, path, argument] = /^\/(\w+)(?:\/(\d+))?/.exec(headers[':path']) ?? [];
  const number = Number(argument ?? 0);
  if (path === 'echo') {
    const chunks = [];
    stream.on('data', (chunk) => chunks.push(chunk));
    stream.on('end', () => finish(stream, headers, 200, Buffer.concat(chunks)));
    return;
  }
  stream.resume();
  if (path === 'bytes') finish(stream, headers, 200, Buffer.alloc(number, 120));
  else if (path === 'status') finish(stream, headers, number, Buffer.alloc(0));
  else if (path === 'reset') stream.close(number);
  else if (path === 'refuse') {
    const target = headers[':path'];
    const before = refused.get(target) ?? 0;
    refused.set(target, before + 1);
    if (before < number) stream.close(http2.constants.NGHTTP2_REFUSED_STREAM);
    else finish(stream, headers, 200, Buffer.alloc(10, 120));
  } else if (path === 'hints') {
    for (let i = 0; i < number; i++) stream.additionalHeaders({ ':status': 103, link: '</style.css>; rel=preload' });
    stream.on('wantTrailers', () => stream.sendTrailers({ 'x-checksum': '17' }));
    // The answer comes when the hints have been read.
    setTimeout(() => {
      if (stream.destroyed) return;
      console.log(JSON.stringify({ method: headers[':method'], target: headers[':path'], status: 200, bodyBytes: 5 }));
      stream.respond({ ':status': 200 }, { waitForTrailers: true });
      stream.end('hints');
    }, 100);
  } else if (path === 'hold') {
    if (number > 0) {
      stream.respond({ ':status': 200 });
      stream.write(Buffer.alloc(number, 120));
    }
    console.log('holds');
  } else if (path === 'goaway') {
    const { session } = stream;
    session.goaway(number, 0);
    setTimeout(() => session.destroy(), 50);
  } else if (path === 'gather') {
    gathered.push([stream, headers]);
    if (gathered.length < number) return;
    for (const [each, fields] of gathered) finish(each, fields, 200, Buffer.alloc(10, 120));
    gathered = [];
  } else if (path === 'push') {
    for (let i = 0; i < number; i++) {
      const pushed = { ':path': `/pushed/${i}` };
      stream.pushStream(pushed, (error, push) => {
        if (!error) finish(push, { ...pushed, ':method': 'GET' }, 200, Buffer.alloc(10, 120));
      });
    }
    finish(stream, headers, 200, Buffer.alloc(0));
  } else finish(stream, headers, 404, Buffer.from('not found\n'));
});
server.on('sessionError', () => {});
server.listen(Number(port), host, 4096, () => console.log(`listening ${server.address().port}`));
process.on('SIGTERM', () => process.exit(0));
