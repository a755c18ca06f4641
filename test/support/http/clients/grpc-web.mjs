/**
 * `node grpc-web.mjs BASE VERSION JSON`: makes calls of gRPC-Web, see grpc-web-server.mjs, all at once: over HTTP/2 on one connection, over HTTP/1.1 on four.
 * JSON: a list of {path, count, type, accept, requests, ask, compress}. Says how they ended, as frames and fields have it: a list of {path, status,
 * requests, responses, bytes}.
 */
import http from 'node:http';
import http2 from 'node:http2';
import https from 'node:https';
import { gzipSync } from 'node:zlib';
import { fromText, isText, message, parse, pieces } from '../../grpc/web-frames.mjs';

const [base, version, json] = process.argv.slice(2);

async function read(stream, fields) {
  const chunks = [];
  for await (const chunk of stream) chunks.push(chunk);
  return { fields, body: Buffer.concat(chunks) };
}

/** What sends a request and gives the fields and the body of the answer; and how that ends. */
function over1() {
  const module = base.startsWith('https') ? https : http;
  const agent = new module.Agent({ keepAlive: true, maxSockets: 4 });
  const send = (path, headers, body) =>
    new Promise((resolve, reject) => {
      const options = { agent, method: 'POST', headers, rejectUnauthorized: false };
      const request = module.request(base + path, options, (response) => resolve(read(response, response.headers)));
      request.on('error', reject);
      for (const piece of pieces(body)) request.write(piece);
      request.end();
    });
  return { send, close: () => agent.destroy() };
}

function over2() {
  const session = http2.connect(base, { rejectUnauthorized: false });
  const send = (path, headers, body) =>
    new Promise((resolve, reject) => {
      const stream = session.request({ ':path': path, ':method': 'POST', ...headers });
      stream.on('response', (fields) => resolve(read(stream, fields)));
      stream.on('error', reject);
      for (const piece of pieces(body)) stream.write(piece);
      stream.end();
    });
  return { send, close: () => session.close() };
}

const { send, close } = version === '2' ? over2() : over1();

async function call({ path, type, accept, requests = 1, ask = {}, compress = false }) {
  const content = Buffer.from(JSON.stringify({ ...ask, compress }));
  const body = Buffer.concat(Array(requests).fill(message(compress ? gzipSync(content) : content, compress)));
  const sent = isText(type) ? Buffer.from(body.toString('base64')) : body;
  const headers = { 'content-type': type, 'x-grpc-web': '1', ...(accept !== undefined && { accept }) };
  const answer = await send(path, headers, sent);
  const text = isText(answer.fields['content-type']);
  const { messages, bytes, status } = parse(text ? fromText(answer.body) : answer.body);
  return { path, status: status ?? Number(answer.fields['grpc-status']), requests, responses: messages.length, bytes };
}

const all = JSON.parse(json).flatMap((each) => Array.from({ length: each.count ?? 1 }, () => each));
const ends = await Promise.all(all.map(call));
close();
console.log(JSON.stringify(ends));
