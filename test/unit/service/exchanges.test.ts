import assert from 'node:assert/strict';
import { type TestContext, test } from 'node:test';
import type { Exchange } from '../../../src/exchange/exchange.ts';
import { Feed } from '../../../src/export/feed.ts';
import { protocolViewers } from '../../../src/protocol/registry.ts';
import { Access } from '../../../src/service/access.ts';
import { exchangesRoute } from '../../../src/service/exchanges.ts';
import { Service } from '../../../src/service/server.ts';
import type { ReasonCounts } from '../../../src/telemetry/counters.ts';
import { freePort, until } from '../../support/programs/net.ts';
import { builder, exchange, seen, sqlExchange } from '../../support/spans/fixtures.ts';

async function setUp(t: TestContext, exchangesPerSecond = 1000) {
  const counts: ReasonCounts = {};
  const feed = new Feed(counts, { readers: 2, exchangesPerSecond });
  const address = { host: '127.0.0.1', port: await freePort() };
  const route = exchangesRoute([...protocolViewers.keys()], () => ({ feed, counts }));
  const service = await Service.open(address, [route], { access: new Access(address, undefined) });
  t.after(() => service.close());
  const publish = (each: Exchange): void => feed.publish(seen(each, builder().build(each)));
  const url = `http://127.0.0.1:${address.port}/exchanges`;
  return { feed, counts, service, publish, url };
}

test('each exchange is a line, until there are enough', async (t) => {
  const { feed, publish, url } = await setUp(t);
  const answer = await fetch(`${url}?protocol=http&limit=2`);
  assert.equal(answer.headers.get('content-type'), 'application/x-ndjson; charset=utf-8');
  assert.ok(feed.isRead);
  for (const target of ['/1', '/2?sig=geheim', '/3']) {
    publish(exchange({ target }));
    publish(sqlExchange());
  }
  const lines = (await answer.text()).trimEnd().split('\n');
  assert.deepEqual(
    lines.map((line) => JSON.parse(line).summary),
    ['GET /1', 'GET /2?sig=REDACTED'],
  );
  await until(async () => (feed.isRead ? undefined : true), 'the reader to leave');
});

test('as server-sent events', async (t) => {
  const { publish, service, url } = await setUp(t);
  const answer = await fetch(url, { headers: { accept: 'text/event-stream' } });
  assert.equal(answer.headers.get('content-type'), 'text/event-stream; charset=utf-8');
  publish(sqlExchange());
  service.close();
  const [, data] = /^event: exchange\ndata: (\{.*\})\n\n$/.exec(await answer.text()) ?? [];
  assert.equal(JSON.parse(data!).summary, 'SELECT orders');
});

test('what was missed is said ahead of what follows', async (t) => {
  const { counts, feed, publish, url } = await setUp(t, 10);
  const answer = await fetch(`${url}?limit=11`);
  for (let i = 0; i < 14; i++) publish(exchange());
  feed.tick();
  publish(exchange());
  const lines = (await answer.text()).trimEnd().split('\n');
  assert.deepEqual([lines.length, lines[10]], [12, '{"missed":4}']);
  assert.deepEqual(counts, { rate_limited: 4 });
});

test('a reader that takes nothing loses exchanges, counted, and holds up nobody', async (t) => {
  const { counts, publish, url } = await setUp(t, 100_000);
  const answer = await fetch(url);
  const big = exchange({ target: `/${'x'.repeat(100_000)}` });
  for (let i = 0; i < 50; i++) publish(big);
  assert.ok(counts.slow_reader! > 20, JSON.stringify(counts));
  await answer.body?.cancel();
});

test('wrong parameters, too many readers', async (t) => {
  const { url } = await setUp(t);
  const status = async (query: string) => {
    const answer = await fetch(`${url}${query}`);
    const said = answer.status === 200 ? '' : await answer.text();
    return `${answer.status} ${said.trim()}`;
  };
  assert.match(await status('?protocol=ftp'), /^400 protocol: expected one of grpc, http, /);
  for (const limit of ['0', '-1', '1e3', '9999999999']) assert.match(await status(`?limit=${limit}`), /^400 limit/);
  assert.equal(await status('?prot=http'), '400 parameters are: protocol, limit');
  assert.equal(await status(''), '200 ');
  assert.equal(await status(''), '200 ');
  assert.match(await status(''), /^503 /);
});
