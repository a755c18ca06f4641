/** Node's `redis`. The one argument is JSON: {host, port, tls, ca}. */
import { readFileSync } from 'node:fs';
import { createRequire } from 'node:module';

const { createClient } = createRequire(`${process.env.CLIENT_PACKAGES}/package.json`)('redis');
const { host, port, tls, ca, resp } = JSON.parse(process.argv[2]);

const client = createClient({
  RESP: resp ?? 2,
  socket: { host, port, ...(tls ? { tls: true, ca: readFileSync(ca) } : {}) },
});
client.on('error', () => {});
await client.connect();

const fails = async (promise) => {
  try {
    await promise;
  } catch {
    return;
  }
  throw new Error('did not fail');
};

await client.set('node:a', 'value');
await client.get('node:a');
await client.hSet('node:h', { f: '1', g: '2' });
await client.hGetAll('node:h');
await fails(client.lPop('node:a'));
await fails(client.sendCommand(['NOSUCHCOMMAND', 'x']));
await client.configGet('maxmemory');
await client.clientSetName('node');
// One write.
await Promise.all(Array.from({ length: 100 }, (_, i) => client.set(`node:${i}`, 'x'.repeat(i))));
await client
  .multi()
  .incr('node:n')
  .lPop('node:a')
  .get('node:n')
  .execAsPipeline()
  .catch(() => {});
await client.multi().incr('node:n').get('node:n').exec();
await fails(client.multi().incr('node:n').lPop('node:a').exec());
await client.select(5);
await client.set('node:in5', '5');
await client.select(0);
await fails(client.evalSha('ffffffffffffffffffffffffffffffffffffffff'));
await client.eval('return redis.call("SET", KEYS[1], ARGV[1])', { keys: ['node:lua'], arguments: ['1'] });
await client.set('node:large', 'x'.repeat(3_000_000));
await client.get('node:large');
await client.blPop('node:none', 0.2);
await client.xAdd('node:stream', '*', { a: '1' });
await client.xRead({ key: 'node:stream', id: '0' });
await client.publish('node:channel', 'message');
const subscriber = client.duplicate();
subscriber.on('error', () => {});
await subscriber.connect();
await subscriber.subscribe('node:channel', () => {});
await client.publish('node:channel', 'message');
await subscriber.unsubscribe('node:channel');
subscriber.destroy();
await client.close();
