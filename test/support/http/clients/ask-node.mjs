/** `node ask-node.mjs BASE REQUESTS-AS-JSON`: the requests, one after the other on one connection. See clients.ts. */
import http from 'node:http';
import https from 'node:https';

const [base, list] = process.argv.slice(2);
const url = new URL(base);
const library = url.protocol === 'https:' ? https : http;
const agent = new library.Agent({ keepAlive: true, maxSockets: 1 });
for (const { method, target, bodyBytes } of JSON.parse(list)) {
  const headers = bodyBytes > 0 ? { 'content-length': bodyBytes } : {};
  await new Promise((resolve, reject) => {
    const options = {
      method,
      path: target,
      headers,
      agent,
      host: url.hostname.replace(/^\[|\]$/g, ''),
      port: url.port,
    };
    const request = library.request({ ...options, rejectUnauthorized: false }, (response) => {
      response.resume();
      response.on('end', resolve).on('error', reject);
    });
    request.on('error', reject);
    request.end(bodyBytes > 0 ? Buffer.alloc(bodyBytes, 121) : undefined);
  });
}
agent.destroy();
