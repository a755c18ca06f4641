import assert from 'node:assert/strict';
import { createServer, type IncomingMessage, type RequestListener, type Server, type ServerResponse } from 'node:http';
import { type AddressInfo, connect, createServer as createTcpServer } from 'node:net';
import { after, afterEach, describe, it } from 'node:test';
import { gunzipSync } from 'node:zlib';
import { parseConfig } from '../../../src/config/load.ts';
import type { ExportOutcome } from '../../../src/export/batch.ts';
import { HttpTraceExporter, parseRetryAfterMs } from '../../../src/export/http-exporter.ts';
import { otlpSettings } from '../../../src/export/otlp-settings.ts';

describe('OTLP over HTTP', () => {
  const servers: Server[] = [];
  const exporters: HttpTraceExporter[] = [];

  afterEach(async () => {
    for (const each of exporters.splice(0)) await each.shutdown();
    for (const each of servers.splice(0)) each.closeAllConnections();
  });
  after(() => {});

  async function listen(answer: RequestListener): Promise<string> {
    const server = createServer(answer);
    servers.push(server);
    await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
    server.unref();
    return `http://127.0.0.1:${(server.address() as AddressInfo).port}`;
  }

  function exporter(endpoint: string, values: object = {}): HttpTraceExporter {
    const text = JSON.stringify({ otlp: { endpoint, protocol: 'http/protobuf', ...values } });
    const made = new HttpTraceExporter(otlpSettings(parseConfig(text, 'x').otlp, 'wirespan/9'));
    exporters.push(made);
    return made;
  }

  function send(to: HttpTraceExporter, payload = Buffer.from('payload')): Promise<ExportOutcome> {
    return new Promise((resolve) => to.exportBatch({ payload, spans: 1, byteLength: payload.length }, resolve));
  }

  async function bodyOf(request: IncomingMessage): Promise<Buffer> {
    const chunks: Buffer[] = [];
    for await (const chunk of request) chunks.push(chunk as Buffer);
    return Buffer.concat(chunks);
  }

  const accept = (_: IncomingMessage, response: ServerResponse): void => void response.end();

  for (const compression of ['none', 'gzip'] as const) {
    it(`posts the payload with the headers (${compression})`, async () => {
      const seen: { request: IncomingMessage; body: Buffer }[] = [];
      const url = await listen(async (request, response) => {
        seen.push({ request, body: await bodyOf(request) });
        response.end();
      });
      const headers = { 'X-Tenant': 'one', 'content-type': 'text/plain' };
      const payload = Buffer.alloc(300_000, 'spans');
      const outcome = await send(exporter(url, { headers, compression }), payload);
      assert.deepEqual(outcome, { delivered: true, rejected: 0, message: '' });
      const [{ request, body }] = seen as [(typeof seen)[0]];
      assert.equal(`${request.method} ${request.url}`, 'POST /v1/traces');
      assert.equal(request.headers['x-tenant'], 'one');
      assert.equal(request.headers['content-type'], 'application/x-protobuf');
      assert.equal(request.headers['user-agent'], 'wirespan/9');
      assert.equal(request.headers['content-encoding'], compression === 'gzip' ? 'gzip' : undefined);
      assert.deepEqual(compression === 'gzip' ? gunzipSync(body) : body, payload);
    });
  }

  it('takes 429, 502, 503 and 504 as passing, and every other failure as final', async () => {
    for (const status of [301, 400, 401, 403, 404, 408, 413, 429, 500, 501, 502, 503, 504]) {
      const url = await listen((_, response) => void response.writeHead(status, { 'retry-after': '7' }).end());
      const outcome = await send(exporter(url));
      assert.ok(!outcome.delivered);
      const passing = [429, 502, 503, 504].includes(status);
      assert.deepEqual(outcome.failure, {
        status: `HTTP ${status}`,
        retryable: passing,
        retryDelayMs: passing ? 7000 : undefined,
      });
    }
  });

  it('says what the backend says', async () => {
    const url = await listen((_, response) => {
      // google.rpc.Status { code: 3, message: "no trace id" }
      response.writeHead(400, { 'content-type': 'application/x-protobuf' });
      response.end(Buffer.from(`0803120b${Buffer.from('no trace id').toString('hex')}`, 'hex'));
    });
    const outcome = await send(exporter(url));
    assert.ok(!outcome.delivered);
    assert.equal(outcome.reason, 'Bad Request: no trace id');
  });

  it('reads a partial success; what is none is a success', async () => {
    let body = Buffer.from('0a0608031202' + '6e6f', 'hex');
    const url = await listen((_, response) => void response.end(body));
    const to = exporter(url);
    assert.deepEqual(await send(to), { delivered: true, rejected: 3, message: 'no' });
    body = Buffer.from('0aff', 'hex');
    assert.deepEqual(await send(to), { delivered: true, rejected: 0, message: '' });
    body = Buffer.alloc(5 * 1024 * 1024);
    assert.equal((await send(to)).delivered, true);
  });

  it('takes a connection that fails as passing', async () => {
    const refused = await send(exporter('http://127.0.0.1:1'));
    assert.ok(!refused.delivered);
    assert.deepEqual(refused.failure, { status: 'error', retryable: true, retryDelayMs: undefined });
    assert.match(refused.reason, /ECONNREFUSED/);
    const url = await listen((request) => void request.socket.destroy());
    const cut = await send(exporter(url));
    assert.ok(!cut.delivered && cut.failure.retryable);
    const unknown = await send(exporter('http://nowhere.invalid:4318'));
    assert.ok(!unknown.delivered && unknown.failure.retryable);
    assert.match(unknown.reason, /ENOTFOUND|EAI_AGAIN/);
  });

  it('gives up a request that takes too long, also one that is answered drop by drop', async () => {
    const silent = await listen(() => {});
    const slow = await send(exporter(silent, { timeout_ms: 50 }));
    assert.ok(!slow.delivered && slow.failure.retryable);
    assert.equal(slow.reason, 'no answer within 50 ms');
    const dripping = createTcpServer((socket) => {
      socket.on('error', () => {});
      socket.write('HTTP/1.1 200 OK\r\n');
      const timer = setInterval(() => socket.write('x-a: b\r\n'), 10);
      socket.on('close', () => clearInterval(timer));
    });
    await new Promise<void>((resolve) => dripping.listen(0, '127.0.0.1', resolve));
    const { port } = dripping.address() as AddressInfo;
    const dripped = await send(exporter(`http://127.0.0.1:${port}`, { timeout_ms: 100 }));
    assert.ok(!dripped.delivered && dripped.failure.retryable);
    dripping.close();
  });

  it('sends again at once over a connection that the backend has closed meanwhile', async () => {
    let connections = 0;
    const url = await listen(accept);
    servers[0]!.on('connection', () => connections++);
    servers[0]!.keepAliveTimeout = 0;
    // A proxy that cuts whatever is idle, as it is used again.
    let requests = 0;
    const proxy = createTcpServer((socket) => {
      const upstream = connect(Number(new URL(url).port), '127.0.0.1');
      let used = 0;
      socket.on('data', (data) => {
        requests++;
        if (used++ > 0) socket.resetAndDestroy();
        else upstream.write(data);
      });
      upstream.on('data', (data) => socket.write(data));
      socket.on('error', () => {}).on('close', () => upstream.destroy());
      upstream.on('error', () => {});
    });
    await new Promise<void>((resolve) => proxy.listen(0, '127.0.0.1', resolve));
    const to = exporter(`http://127.0.0.1:${(proxy.address() as AddressInfo).port}`);
    for (let i = 0; i < 3; i++) assert.equal((await send(to, Buffer.from('x'))).delivered, true);
    assert.ok(connections >= 3, String(connections));
    assert.ok(requests >= 5, String(requests));
    await to.shutdown();
    proxy.close();
  });

  it('reads Retry-After in seconds and as a date', () => {
    const nowMs = Date.parse('2026-01-02T03:04:05Z');
    assert.equal(parseRetryAfterMs('120', nowMs), 120_000);
    assert.equal(parseRetryAfterMs('Fri, 02 Jan 2026 03:04:35 GMT', nowMs), 30_000);
    assert.equal(parseRetryAfterMs('Fri, 02 Jan 2026 03:04:00 GMT', nowMs), 0);
    assert.equal(parseRetryAfterMs('soon', nowMs), undefined);
    assert.equal(parseRetryAfterMs(undefined, nowMs), undefined);
  });
});
