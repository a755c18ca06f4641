/**
 * `node load.mjs OPTIONS-AS-JSON`: many requests, each with a target of its own, over several addresses. See clients.ts.
 * Kept-alive connections and new ones are mixed. Prints one JSON object: the answers by status.
 */
import http from 'node:http';
import https from 'node:https';

const { bases, count, concurrency, newConnectionEvery, prefix } = JSON.parse(process.argv[2]);
const kept = {
  'http:': new http.Agent({ keepAlive: true, maxSockets: concurrency }),
  'https:': new https.Agent({ keepAlive: true, maxSockets: concurrency }),
};
const fresh = {
  'http:': new http.Agent({ keepAlive: false }),
  'https:': new https.Agent({ keepAlive: false, maxCachedSessions: 0 }),
};
/** One in ten is a POST, one in ten is not found, the rest are GET. */
const kindOf = (index) =>
  index % 10 === 3
    ? { method: 'POST', path: `/orders/${prefix}-${index}?kind=post`, body: 'z'.repeat(index % 3000) }
    : index % 10 === 7
      ? { method: 'GET', path: `/missing/${prefix}-${index}` }
      : { method: 'GET', path: `/orders/${prefix}-${index}` };

function ask(index) {
  const url = new URL(bases[index % bases.length]);
  const { method, path, body } = kindOf(index);
  const agents = index % newConnectionEvery === 0 ? fresh : kept;
  const headers = body === undefined ? {} : { 'content-length': body.length };
  const library = url.protocol === 'https:' ? https : http;
  return new Promise((resolve, reject) => {
    const request = library.request(
      {
        host: url.hostname.replace(/^\[|\]$/g, ''),
        port: url.port,
        path,
        method,
        headers,
        agent: agents[url.protocol],
        rejectUnauthorized: false,
      },
      (response) => {
        response.resume();
        response.on('end', () => resolve(response.statusCode));
        response.on('error', reject);
      },
    );
    request.on('error', reject);
    request.end(body);
  });
}

const statuses = {};
let next = 0;
async function worker() {
  while (next < count) {
    const status = await ask(next++);
    statuses[status] = (statuses[status] ?? 0) + 1;
  }
}
await Promise.all(Array.from({ length: concurrency }, worker));
console.log(JSON.stringify(statuses));
for (const agent of [...Object.values(kept), ...Object.values(fresh)]) agent.destroy();
