/** `node front.mjs CERT KEY ORDERS-URL`: hands each request on to the orders service, its trace context too. See shop.ts. */
import https from 'node:https';
import { serve } from './serve.mjs';

const [, , orders] = process.argv.slice(2);
const agent = new https.Agent({ keepAlive: true, maxSockets: 4 });

serve((request, response) => {
  const { traceparent } = request.headers;
  const onward = https.request(`${orders}${request.url}`, {
    agent,
    rejectUnauthorized: false,
    headers: traceparent === undefined ? {} : { traceparent },
  });
  onward.on('response', (answer) => {
    response.writeHead(answer.statusCode === 200 ? 200 : 502, { 'content-type': 'application/json' });
    answer.pipe(response);
  });
  onward.on('error', () => response.writeHead(503).end());
  onward.end();
});
