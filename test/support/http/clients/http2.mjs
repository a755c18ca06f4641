/**
 * `node http2.mjs BASE JSON`: sends requests on one HTTP/2 connection, all at once, or one after the other with `serial`. JSON: a list of
 * {path, count, method, body, headers, cancelMs, waitMs}, or {connect: HOST:PORT, say}: a tunnel to there, that text, all of the answer. Says how they ended: counts by status, or by the code of their reset.
 * Before that, with `tell: {bytes, ended}`, `so far` when so many bytes have come and so many requests have ended; a line on its standard input then
 * makes it send a PING.
 */
import http2 from 'node:http2';

const [base, json] = process.argv.slice(2);
const { serial = false, asks, tell } = JSON.parse(json);
const ends = {};
const session = http2.connect(base, {
  rejectUnauthorized: false,
  maxSendHeaderBlockLength: 1 << 20,
  maxSessionMemory: 1000,
  settings: { enablePush: true },
});
session.on('error', () => {});
session.on('stream', (pushed) => pushed.resume());

const soFar = { bytes: 0, ended: 0 };
function happened(what, count) {
  soFar[what] += count;
  if (tell?.bytes === soFar.bytes && tell.ended === soFar.ended) console.log('so far');
}
if (tell !== undefined) process.stdin.once('data', () => session.ping(() => {}));

function send({ path, method = 'GET', body = 0, headers = {}, cancelMs }) {
  return new Promise((resolve) => {
    const stream = session.request({ ':path': path, ':method': method, ...headers }, { endStream: body === 0 });
    let status = 0;
    stream.on('response', (fields) => {
      status = fields[':status'];
    });
    stream.on('error', () => {});
    stream.on('close', () => {
      const end = stream.rstCode === 0 && status > 0 ? String(status) : `reset ${stream.rstCode}`;
      ends[end] = (ends[end] ?? 0) + 1;
      resolve();
      happened('ended', 1);
    });
    stream.on('data', ({ length }) => happened('bytes', length));
    if (body > 0) stream.end(Buffer.alloc(body, 121));
    if (cancelMs !== undefined) setTimeout(() => stream.close(http2.constants.NGHTTP2_CANCEL), cancelMs);
  });
}

function tunnel({ connect, say }) {
  return new Promise((resolve) => {
    const stream = session.request({ ':method': 'CONNECT', ':authority': connect }, { endStream: false });
    let text = '';
    stream.setEncoding('latin1');
    stream.on('response', () => stream.write(say));
    stream.on('data', (part) => {
      text += part;
    });
    stream.on('error', () => {});
    stream.on('end', () => stream.end());
    stream.on('close', () => {
      const [said] = text.split('\r\n', 1);
      ends[said] = (ends[said] ?? 0) + 1;
      resolve();
    });
  });
}

await new Promise((resolve) => session.on('remoteSettings', resolve));
const all = asks.flatMap((ask) => Array.from({ length: ask.count ?? 1 }, () => ask));
if (serial) {
  for (const ask of all) {
    await (ask.connect === undefined ? send(ask) : tunnel(ask));
    if (ask.waitMs !== undefined) await new Promise((resolve) => setTimeout(resolve, ask.waitMs));
  }
} else await Promise.all(all.map((ask) => (ask.connect === undefined ? send(ask) : tunnel(ask))));
session.close();
process.stdin.destroy();
console.log(JSON.stringify(ends));
