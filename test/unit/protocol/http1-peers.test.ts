import assert from 'node:assert/strict';
import { execFile, spawn } from 'node:child_process';
import { once } from 'node:events';
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import http from 'node:http';
import net, { type AddressInfo } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, before, describe, test } from 'node:test';
import { promisify } from 'node:util';
import { FROM_CLIENT, FROM_SERVER } from '../../../src/flow/connection.ts';
import type { HttpExchange } from '../../../src/protocol/http/exchange.ts';
import { Bench } from '../../support/protocols/cases.ts';

const run = promisify(execFile);
const TIMEOUT_MS = 20_000;

/** Relays TCP to a port and gives what it sees to a parser for each connection. */
class Tap {
  readonly benches: Bench[] = [];
  private readonly server: net.Server;
  private open = 0;

  constructor(targetPort: number) {
    this.server = net.createServer((client) => {
      const bench = new Bench();
      this.benches.push(bench);
      this.open++;
      const upstream = net.connect(targetPort, '127.0.0.1');
      client.on('data', (bytes) => bench.feed(FROM_CLIENT, bytes, nowUs()));
      upstream.on('data', (bytes) => bench.feed(FROM_SERVER, bytes, nowUs()));
      client.on('end', () => bench.layer.end(FROM_CLIENT, 'fin', nowUs()));
      upstream.on('end', () => bench.layer.end(FROM_SERVER, 'fin', nowUs()));
      for (const socket of [client, upstream]) socket.on('error', () => {});
      client.pipe(upstream).pipe(client);
      client.on('close', () => {
        upstream.destroy();
        bench.close('fin', nowUs());
        this.open--;
      });
    });
  }

  async listen(): Promise<number> {
    this.server.listen(0, '127.0.0.1');
    await once(this.server, 'listening');
    return (this.server.address() as AddressInfo).port;
  }

  /** All exchanges, once every connection is closed. */
  async finish(): Promise<HttpExchange[]> {
    for (const deadline = Date.now() + TIMEOUT_MS; this.open > 0; ) {
      assert.ok(Date.now() < deadline, 'a connection stays open');
      await new Promise((resolve) => setTimeout(resolve, 5));
    }
    this.server.close();
    for (const { counters } of this.benches) {
      assert.deepEqual(counters.parseErrors, {});
      assert.deepEqual(counters.incomplete, {});
    }
    return this.benches.flatMap((bench) => bench.exchanges).sort((a, b) => a.startUs - b.startUs);
  }
}

function nowUs(): number {
  return performance.now() * 1000;
}

const brief = (e: HttpExchange): string =>
  `${e.version} ${e.method} ${e.target} ${e.statusCode} ${e.requestBodyBytes} ${e.responseBodyBytes}`;

describe('HTTP/1.1 between real peers', { timeout: 60_000 }, () => {
  /** What the server says that it did, in the form of brief(). */
  let served: string[] = [];
  const server = http.createServer((request, response) => {
    let received = 0;
    request.on('data', (bytes: Buffer) => {
      received += bytes.length;
    });
    request.on('end', () => {
      const url = new URL(request.url!, 'http://x');
      const size = Number(url.searchParams.get('size') ?? 0);
      const status = Number(url.searchParams.get('status') ?? 200);
      const bodiless = request.method === 'HEAD' || status === 204 || status === 304;
      response.statusCode = status;
      if (url.searchParams.has('length')) response.setHeader('Content-Length', size);
      served.push(
        `${request.httpVersion} ${request.method} ${request.url} ${status} ${received} ${bodiless ? 0 : size}`,
      );
      for (let sent = 0; sent < size; sent += 10_000) response.write(Buffer.alloc(Math.min(10_000, size - sent), 10));
      response.end();
    });
  });
  let port = 0;
  const directory = mkdtempSync(join(tmpdir(), 'wirespan-http1-'));
  const upload = join(directory, 'upload.bin');

  before(async () => {
    writeFileSync(upload, Buffer.alloc(200_000, 'HTTP/1.1 200 OK\r\n\r\nGET / HTTP/1.1\r\n\r\n'));
    server.listen(0, '127.0.0.1');
    await once(server, 'listening');
    port = (server.address() as AddressInfo).port;
  });
  after(() => {
    server.close();
    server.closeAllConnections();
    rmSync(directory, { recursive: true });
  });

  test('node:http to node:http, keep-alive, several at once', async () => {
    served = [];
    const tap = new Tap(port);
    const tapPort = await tap.listen();
    const agent = new http.Agent({ keepAlive: true, maxSockets: 4 });
    const send = (method: string, path: string, body: number): Promise<void> =>
      new Promise((resolve, reject) => {
        const request = http.request({ port: tapPort, host: '127.0.0.1', method, path, agent }, (response) => {
          response.resume().on('end', resolve);
        });
        request.on('error', reject);
        if (body > 0 && body % 2 === 0) request.setHeader('Content-Length', body);
        request.end(Buffer.alloc(body, 'G'));
      });
    const jobs: Promise<void>[] = [];
    for (let i = 0; i < 200; i++) {
      const method = ['GET', 'POST', 'HEAD', 'PUT', 'DELETE'][i % 5]!;
      const status = [200, 204, 304, 404, 500][i % 7] ?? 200;
      const body = method === 'POST' || method === 'PUT' ? i * 311 : 0;
      jobs.push(send(method, `/${i}?size=${(i * 997) % 60_000}&status=${status}${i % 3 === 0 ? '&length' : ''}`, body));
    }
    await Promise.all(jobs);
    agent.destroy();
    const exchanges = await tap.finish();
    assert.equal(exchanges.length, 200);
    assert.deepEqual(exchanges.map(brief).sort(), [...served].sort());
  });

  test('curl to node:http: HEAD, an upload that waits for 100, HTTP/1.0', async () => {
    served = [];
    const tap = new Tap(port);
    const url = `http://127.0.0.1:${await tap.listen()}`;
    const quiet = ['-sS', '-o', '/dev/null', '--max-time', '20'];
    await run('curl', [...quiet, `${url}/a?size=30000`, ...quiet, `${url}/b?size=5&length`]);
    await run('curl', [...quiet, '-I', `${url}/head?size=700&length`]);
    await run('curl', [...quiet, '-H', 'Expect: 100-continue', '--data-binary', `@${upload}`, `${url}/up`]);
    await run('curl', [...quiet, '-H', 'Transfer-Encoding: chunked', '-T', upload, `${url}/chunked`]);
    await run('curl', [...quiet, '--http1.0', `${url}/old?size=3000`]);
    const exchanges = await tap.finish();
    assert.deepEqual(exchanges.map(brief), served);
    assert.equal(exchanges.length, 6);
    assert.equal(exchanges[3]?.requestBodyBytes, 200_000);
  });

  test('curl and Python to http.server, which closes after each response', async () => {
    const python = spawn('python3', ['-u', '-m', 'http.server', '0', '--bind', '127.0.0.1', '-d', directory], {
      stdio: ['ignore', 'pipe', 'ignore'],
    });
    try {
      const [line] = (await once(python.stdout, 'data')) as [Buffer];
      const tap = new Tap(Number(/port (\d+)/.exec(line.toString())![1]));
      const tapPort = await tap.listen();
      const url = `http://127.0.0.1:${tapPort}`;
      await run('curl', ['-sS', '-o', '/dev/null', '--max-time', '20', `${url}/upload.bin`]);
      await run('curl', ['-sS', '-I', '--max-time', '20', `${url}/upload.bin`]);
      await run('curl', ['-sS', '-o', '/dev/null', '--max-time', '20', `${url}/none?x=1`]);
      await run('python3', ['-c', `import urllib.request as u; u.urlopen("${url}/upload.bin").read()`]);
      const exchanges = await tap.finish();
      assert.deepEqual(
        exchanges.map((e) => `${e.method} ${e.target} ${e.statusCode}`),
        ['GET /upload.bin 200', 'HEAD /upload.bin 200', 'GET /none?x=1 404', 'GET /upload.bin 200'],
      );
      assert.deepEqual(
        [0, 1, 3].map((i) => exchanges[i]?.responseBodyBytes),
        [200_000, 0, 200_000],
      );
    } finally {
      python.kill();
    }
  });
});
