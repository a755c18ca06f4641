/** `node node-server.mjs HOST PORT [CERT KEY]`: see servers.ts. Says `listening PORT`, then a line of JSON per answer. */
import { readFileSync } from 'node:fs';
import http from 'node:http';
import https from 'node:https';

const [host, port, cert, key] = process.argv.slice(2);

function answer(request, response) {
  const [, path, argument] = /^\/(\w+)(?:\/(\d+))?/.exec(request.url) ?? [];
  const number = Number(argument ?? 0);
  const finish = (status, body) => {
    response.on('finish', () =>
      console.log(
        JSON.stringify({
          method: request.method,
          target: request.url,
          status,
          bodyBytes: request.method === 'HEAD' ? 0 : body.length,
        }),
      ),
    );
    response.writeHead(status, { 'content-length': body.length, 'content-type': 'text/plain' });
    response.end(body);
  };
  if (path === 'echo') {
    const chunks = [];
    request.on('data', (chunk) => chunks.push(chunk));
    request.on('end', () => finish(200, Buffer.concat(chunks)));
    return;
  }
  request.resume();
  if (path === 'bytes') finish(200, Buffer.alloc(number, 120));
  else if (path === 'status') finish(number, Buffer.alloc(0));
  else if (path === 'slow') {
    console.log(`arrived ${request.url}`);
    setTimeout(() => finish(200, Buffer.from('slow')), number);
  } else if (path === 'die') request.socket.resetAndDestroy();
  else if (path === 'events') {
    let left = number;
    let endMs = 0;
    response.on('finish', () =>
      console.log(
        JSON.stringify({ method: request.method, target: request.url, status: 200, bodyBytes: 16 * number, endMs }),
      ),
    );
    response.writeHead(200, { 'content-type': 'text/event-stream', 'cache-control': 'no-store' });
    const timer = setInterval(() => {
      if (left-- > 0) response.write('data: 12345678\n\n');
      else {
        clearInterval(timer);
        endMs = Date.now();
        response.end();
      }
    }, 50);
    response.on('close', () => clearInterval(timer));
    response.flushHeaders();
  } else if (path === 'trickle') {
    let left = number;
    response.on('finish', () =>
      console.log(JSON.stringify({ method: request.method, target: request.url, status: 200, bodyBytes: number * 10 })),
    );
    response.writeHead(200, { 'content-type': 'text/plain' });
    const timer = setInterval(() => {
      if (left-- > 0) response.write('0123456789');
      else {
        clearInterval(timer);
        response.end();
      }
    }, 20);
  } else finish(404, Buffer.from('not found\n'));
}

const server = cert
  ? https.createServer({ cert: readFileSync(cert), key: readFileSync(key) }, answer)
  : http.createServer(answer);
server.keepAliveTimeout = 60_000;
server.listen(Number(port), host, 4096, () => console.log(`listening ${server.address().port}`));
process.on('SIGTERM', () => process.exit(0));
