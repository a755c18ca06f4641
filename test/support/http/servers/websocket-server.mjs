/**
 * `node websocket-server.mjs HOST PORT [CERT KEY]`: see servers.ts. Says `listening PORT`, then a line of JSON per connection that ended. With
 * WEBSOCKET_HTTP2 in the environment it speaks HTTP/2, by extended CONNECT (RFC 8441).
 */
import { readFileSync } from 'node:fs';
import http from 'node:http';
import http2 from 'node:http2';
import https from 'node:https';
import WebSocket, { WebSocketServer } from 'ws';

// Of the largest message no more than ws answers pings at once (maxPendingAutoPongs).
const FRAGMENT_BYTES = 5000;
const [host, port, cert, key] = process.argv.slice(2);
const plain = new WebSocketServer({ noServer: true });
const deflating = new WebSocketServer({ noServer: true, perMessageDeflate: { threshold: 0 } });

function serve(socket, request) {
  const [, path, argument] = /^\/(\w+)(?:\/(\d+))?/.exec(request.url) ?? [];
  const counts = { target: request.url, received: 0, receivedBytes: 0, sent: 0, sentBytes: 0 };
  const send = (data, binary) => {
    counts.sent++;
    counts.sentBytes += data.length;
    if (path !== 'fragments') {
      socket.send(data, { binary });
      return;
    }
    for (let at = 0; ; at += FRAGMENT_BYTES) {
      const fin = at + FRAGMENT_BYTES >= data.length;
      socket.send(data.subarray(at, at + FRAGMENT_BYTES), { binary, fin });
      if (fin) return;
      socket.ping('between fragments');
    }
  };
  socket.on('message', (data, binary) => {
    counts.received++;
    counts.receivedBytes += data.length;
    if (path === 'close') socket.close(Number(argument), 'as asked');
    else if (path === 'die') socket.terminate();
    else send(data, binary);
  });
  socket.on('error', () => {});
  socket.on('close', (code) => console.log(JSON.stringify({ ...counts, code })));
}

const options = cert ? { cert: readFileSync(cert), key: readFileSync(key) } : {};

function overHttp1() {
  const server = (cert ? https : http).createServer(options, (_request, response) => response.writeHead(426).end());
  server.on('upgrade', (request, socket, head) => {
    if (request.url === '/refuse') {
      socket.end('HTTP/1.1 403 Forbidden\r\nContent-Length: 0\r\nConnection: close\r\n\r\n');
      return;
    }
    const acceptor = request.url.startsWith('/deflate') ? deflating : plain;
    acceptor.handleUpgrade(request, socket, head, serve);
  });
  return server;
}

/** The package ws knows HTTP/1.1 only, but reads and writes any stream that it is given. */
function overHttp2() {
  const settings = { enableConnectProtocol: true };
  const server = cert ? http2.createSecureServer({ ...options, settings }) : http2.createServer({ settings });
  server.on('stream', (stream, headers) => {
    stream.on('error', () => {});
    const path = headers[':path'];
    if (headers[':method'] !== 'CONNECT' || headers[':protocol'] !== 'websocket' || path === '/refuse') {
      stream.respond({ ':status': 403 }, { endStream: true });
      return;
    }
    stream.respond({ ':status': 200 });
    const socket = new WebSocket(null, undefined, { closeTimeout: 30_000 });
    socket.setSocket(stream, Buffer.alloc(0), {
      allowSynchronousEvents: true,
      maxPayload: 2 ** 28,
      skipUTF8Validation: false,
    });
    serve(socket, { url: path });
  });
  return server;
}

const server = process.env.WEBSOCKET_HTTP2 === undefined ? overHttp1() : overHttp2();
server.listen(Number(port), host, 4096, () => console.log(`listening ${server.address().port}`));
process.on('SIGTERM', () => process.exit(0));
