/**
 * `node grpc-web-server.mjs HOST PORT VERSION [CERT KEY]`: answers calls of gRPC-Web over HTTP `1.1` or `2`, frame by frame. Messages are JSON; the
 * last one of a request asks: {bytes: of each reply, replies, status: to end with, early: the status in the header fields, compress}. Says
 * `listening PORT`, then a line of JSON per call.
 */
import { readFileSync } from 'node:fs';
import http from 'node:http';
import http2 from 'node:http2';
import https from 'node:https';
import { gzipSync } from 'node:zlib';
import { fromText, isText, message, parse, pieces, trailers } from '../../grpc/web-frames.mjs';

const [host, port, version, cert, key] = process.argv.slice(2);

async function answer(request, response) {
  const chunks = [];
  for await (const chunk of request) chunks.push(chunk);
  const type = request.headers['content-type'];
  const body = Buffer.concat(chunks);
  const { messages, bytes: requestBytes } = parse(isText(type) ? fromText(body) : body);
  const asked = JSON.parse(messages.at(-1).toString('latin1'));
  const { bytes = 10, replies = 1, status = 0, early = false, compress = false } = asked;
  const content = compress ? gzipSync(Buffer.alloc(bytes, 121)) : Buffer.alloc(bytes, 121);
  const responses = early ? 0 : replies;
  const method = request.url.slice('/test.Calls/'.length);
  const counted = { requests: messages.length, responses, requestBytes, responseBytes: responses * content.length };
  console.log(JSON.stringify({ method, status, ...counted }));
  const answerType = request.headers.accept ?? type;
  const said = status === 0 ? undefined : 'not for traces';
  if (early) {
    response.writeHead(200, { 'content-type': answerType, 'grpc-status': status, 'grpc-message': said });
    response.end();
    return;
  }
  const frames = [...Array(responses).fill(message(content, compress)), trailers(status, said)];
  response.writeHead(200, { 'content-type': answerType });
  // Each frame with padding of its own.
  const encoded = isText(answerType) ? frames.map((each) => Buffer.from(each.toString('base64'))) : frames;
  for (const piece of pieces(Buffer.concat(encoded))) response.write(piece);
  response.end();
}

const secure = cert && { cert: readFileSync(cert), key: readFileSync(key) };
function make() {
  if (version === '2') return secure ? http2.createSecureServer(secure) : http2.createServer();
  return secure ? https.createServer(secure) : http.createServer();
}
const server = make();
server.on('request', (request, response) => void answer(request, response));
// No connection ends between two requests.
server.keepAliveTimeout = 600_000;
server.listen(Number(port), host, () => console.log(`listening ${server.address().port}`));
process.on('SIGTERM', () => process.exit(0));
