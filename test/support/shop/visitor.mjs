/**
 * `node visitor.mjs FRONT-URL COUNT PAUSE_MS`: asks for the orders 1 to COUNT by four at once, each with a pause after it, or without a
 * COUNT until it is told to end; then says the answers by status as JSON.
 */
import https from 'node:https';
import { setTimeout as sleep } from 'node:timers/promises';

const [front, count, pause] = process.argv.slice(2);
const agent = new https.Agent({ keepAlive: true, maxSockets: 4 });
const last = Number(count) || Number.POSITIVE_INFINITY;
const statuses = {};
let id = 0;
let ended = false;
process.on('SIGTERM', () => {
  ended = true;
});

function ask() {
  id += 1;
  return new Promise((resolve, reject) => {
    const request = https.get(`${front}/orders/${id}`, { agent, rejectUnauthorized: false }, (response) => {
      statuses[response.statusCode] = (statuses[response.statusCode] ?? 0) + 1;
      response.resume().on('end', resolve).on('error', reject);
    });
    request.on('error', reject);
  });
}

await Promise.all(
  Array.from({ length: 4 }, async () => {
    while (!ended && id < last) {
      await ask();
      await sleep(Number(pause));
    }
  }),
);
agent.destroy();
console.log(JSON.stringify(statuses));
