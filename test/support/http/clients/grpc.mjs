/**
 * `node grpc.mjs HOST:PORT CERT JSON`: makes calls of grpc-server.mjs on one connection, all at once; CERT is that of a server with TLS, else `-`.
 * JSON: {compress, calls: a list of {path, count, requests, ask, deadlineMs, cancelMs, metadata, open}, tell}. Says how they ended, as the client
 * saw it: a list of {path, status, requests, responses}. Before that, with `tell: {responses, ended}`, `so far` when so many messages have come
 * and so many calls have ended; a line on its standard input then makes it send one more message of the first call that was left `open`.
 */
import { readFileSync } from 'node:fs';
import { Client, credentials, Metadata } from '@grpc/grpc-js';

const [target, cert, json] = process.argv.slice(2);
const { compress = false, calls, tell } = JSON.parse(json);
const options = compress ? { 'grpc.default_compression_algorithm': 2 } : {};
const secure = cert !== '-';
const client = new Client(
  target,
  secure
    ? credentials.createSsl(readFileSync(cert), null, null, { checkServerIdentity: () => undefined })
    : credentials.createInsecure(),
  options,
);
const raw = (bytes) => bytes;

let sayMore;
if (tell !== undefined) process.stdin.once('data', () => sayMore());
const soFar = { responses: 0, ended: 0 };
function happened(what) {
  soFar[what]++;
  if (tell?.responses === soFar.responses && tell.ended === soFar.ended) console.log('so far');
}

function call({ path, requests = 1, ask = {}, deadlineMs, cancelMs, metadata: fields = {}, open = false }) {
  return new Promise((resolve) => {
    const metadata = new Metadata();
    for (const [name, value] of Object.entries(fields)) metadata.set(name, value);
    const callOptions = deadlineMs === undefined ? {} : { deadline: Date.now() + deadlineMs };
    const stream = client.makeBidiStreamRequest(path, raw, raw, metadata, callOptions);
    let [written, responses] = [requests, 0];
    stream.on('data', () => {
      responses++;
      happened('responses');
    });
    stream.on('error', () => {});
    stream.on('status', ({ code }) => {
      resolve({ path, status: code, requests: written, responses });
      happened('ended');
    });
    const message = Buffer.from(JSON.stringify(ask));
    for (let i = 0; i < requests; i++) stream.write(message);
    if (open) {
      sayMore ??= () => {
        stream.write(message);
        written++;
      };
    } else stream.end();
    if (cancelMs !== undefined) setTimeout(() => stream.cancel(), cancelMs);
  });
}

await new Promise((resolve, reject) => {
  client.waitForReady(Date.now() + 10_000, (error) => (error ? reject(error) : resolve()));
});
const all = calls.flatMap((each) => Array.from({ length: each.count ?? 1 }, () => each));
const ends = await Promise.all(all.map(call));
client.close();
process.stdin.destroy();
console.log(JSON.stringify(ends));
