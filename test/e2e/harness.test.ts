/** The means of the live tests, tested without the agent: a failure here says that the machine or the means are at fault. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { startJaeger } from '../support/backends/jaeger.ts';
import { startNginx } from '../support/http/nginx.ts';
import { startNodeServer, startPythonServer } from '../support/http/servers.ts';
import { ourNames } from '../support/kernel/kernel.ts';
import { joinedNamespace } from '../support/kernel/netns.ts';
import { exportSpans, someSpan } from '../support/otlp/export.ts';
import { startSink } from '../support/otlp/sink.ts';
import { cleanupAfter } from '../support/programs/cleanup.ts';
import { until } from '../support/programs/net.ts';
import { run } from '../support/programs/process.ts';
import { tsharkHttp } from '../support/wire/tshark.ts';

test('nginx answers on its three ports and logs what it answered', async (t) => {
  const cleanup = cleanupAfter(t);
  const nginx = await startNginx(cleanup, { files: { big: 3_000_000 }, workers: 2 });
  const urls = [
    `http://127.0.0.1:${nginx.plainPort}/hello`,
    `https://127.0.0.1:${nginx.tls12Port}/missing?a="b"`,
    `https://[::1]:${nginx.tls13Port}/files/big`,
  ];
  for (const url of urls) await run('curl', ['-gsk', '-o', '/dev/null', url.replaceAll('"', '%22')]);
  const log = await nginx.accessLog();
  assert.deepEqual(
    log.map((entry) => [
      entry.request_method,
      entry.request_uri,
      entry.status,
      entry.body_bytes_sent,
      entry.ssl_protocol,
    ]),
    [
      ['GET', '/hello', 200, 6, ''],
      ['GET', '/missing?a=%22b%22', 404, 8, 'TLSv1.2'],
      ['GET', '/files/big', 200, 3_000_000, 'TLSv1.3'],
    ],
  );
  assert.equal(log[2]?.remote_addr, '::1');
  assert.ok(Math.abs(Date.now() / 1000 - log[2]!.msec) < 60);
});

for (const [name, startServer] of [
  ['Node', startNodeServer],
  ['Python', startPythonServer],
] as const) {
  test(`the ${name} server answers over TLS and plain, and says what it answered`, async (t) => {
    const cleanup = cleanupAfter(t);
    for (const tls of [true, false]) {
      const server = await startServer(cleanup, { tls });
      const { stdout } = await run('curl', [
        '-sk',
        `${server.url}/bytes/1000`,
        '-o',
        '/dev/null',
        '-w',
        '%{http_code} %{size_download}',
      ]);
      assert.equal(stdout, '200 1000');
      const echoed = await run('curl', ['-sk', `${server.url}/echo`, '--data', 'x'.repeat(5000)]);
      assert.equal(echoed.stdout.length, 5000);
      const failed = await run('curl', [
        '-sk',
        `${server.url}/status/503?q=1`,
        '-o',
        '/dev/null',
        '-w',
        '%{http_code}',
      ]);
      assert.equal(failed.stdout, '503');
      const log = await until(() => (server.log().length === 3 ? server.log() : undefined), 'three lines of the log');
      assert.deepEqual(log, [
        { method: 'GET', target: '/bytes/1000', status: 200, bodyBytes: 1000 },
        { method: 'POST', target: '/echo', status: 200, bodyBytes: 5000 },
        { method: 'GET', target: '/status/503?q=1', status: 503, bodyBytes: 0 },
      ]);
    }
  });
}

test('a namespace is reached over its veth pair by both families', async (t) => {
  const cleanup = cleanupAfter(t);
  const namespace = await joinedNamespace(cleanup);
  const server = await startPythonServer(cleanup, { tls: false, host: namespace.there.v4, prefix: namespace.prefix });
  const { stdout } = await run('curl', ['-s', '-w', '%{http_code}', '-o', '/dev/null', `${server.url}/bytes/1`]);
  assert.equal(stdout, '200');
  const server6 = await startPythonServer(cleanup, { tls: false, host: namespace.there.v6, prefix: namespace.prefix });
  const answer6 = await run('curl', ['-gs', '-w', '%{http_code}', '-o', '/dev/null', `${server6.url}/bytes/1`]);
  assert.equal(answer6.stdout, '200');
});

test('the sink counts the spans of the official exporter and refuses when told to', async (t) => {
  const cleanup = cleanupAfter(t);
  const sink = await startSink(cleanup);
  assert.equal(
    await exportSpans(
      sink.endpoint,
      Array.from({ length: 700 }, (_, index) => someSpan(index)),
    ),
    0,
  );
  const totals = await sink.totals();
  assert.deepEqual([totals.requests, totals.spans, totals.refused], [1, 700, 0]);
  await sink.refuse(3, 1); // INVALID_ARGUMENT
  assert.equal(await exportSpans(sink.endpoint, [someSpan(0)]), 1);
  assert.deepEqual((await sink.totals()).refused, 1);
  assert.equal((await sink.reset()).spans, 0);
});

test('Jaeger takes spans over OTLP and gives them back', async (t) => {
  const cleanup = cleanupAfter(t);
  const jaeger = await startJaeger(cleanup);
  assert.equal(await exportSpans(jaeger.endpoint, [someSpan(41)]), 0);
  const [service] = await until(async () => {
    const services = await jaeger.services();
    return services.length > 0 ? services : undefined;
  }, 'a service in Jaeger');
  const traces = await jaeger.traces(service!);
  assert.equal(traces.length, 1);
  assert.equal(traces[0]?.[0]?.operationName, 'GET');
  assert.equal(traces[0]?.[0]?.spanID, '2a'.padStart(16, '0'));
  assert.equal(traces[0]?.[0]?.tags['span.kind'], 'server');
});

test('tshark lists the HTTP messages of a file, several in one packet too', async (t) => {
  const cleanup = cleanupAfter(t);
  const folder = await cleanup.temporaryFolder();
  const hex = Buffer.from('GET /a HTTP/1.1\r\nHost: x\r\n\r\nGET /b HTTP/1.1\r\nHost: x\r\n\r\n');
  const dump = [...hex].map(
    (byte, at) =>
      `${at % 16 === 0 ? `\n${at.toString(16).padStart(6, '0')}` : ''} ${byte.toString(16).padStart(2, '0')}`,
  );
  await run('text2pcap', ['-T', '40000,80', '-', `${folder}/f.pcap`], { input: `${dump.join('')}\n` });
  assert.deepEqual(
    (await tsharkHttp(`${folder}/f.pcap`)).map(({ method, target }) => [method, target]),
    [
      ['GET', '/a'],
      ['GET', '/b'],
    ],
  );
});

test('the names of our programs and maps are found in the BPF sources', () => {
  assert.ok(ourNames().size > 1);
});
