/**
 * `node idle.mjs BASE COUNT`: opens COUNT connections over TLS, each with one answered request, and holds them all open. Says
 * `open COUNT`; on a line of standard input it sends one more request on each, says `done`, and ends.
 */
import https from 'node:https';

const [base, text] = process.argv.slice(2);
const count = Number(text);
const agents = Array.from(
  { length: count },
  () => new https.Agent({ keepAlive: true, maxSockets: 1, rejectUnauthorized: false }),
);

function ask(agent, path) {
  return new Promise((resolve, reject) => {
    const request = https.get(`${base}${path}`, { agent }, (response) => {
      response.resume();
      response.on('end', resolve);
    });
    request.on('error', reject);
  });
}

/** Some at a time: the server's queue of new connections is not what is tested. */
async function all(path) {
  let next = 0;
  await Promise.all(
    Array.from({ length: 20 }, async () => {
      while (next < count) {
        const index = next++;
        await ask(agents[index], `${path}-${index}`);
      }
    }),
  );
}

await all('/orders/first');
console.log(`open ${count}`);
process.stdin.once('data', async () => {
  await all('/orders/second');
  console.log('done');
  process.exit(0);
});
