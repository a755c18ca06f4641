import assert from 'node:assert/strict';
import { once } from 'node:events';
import { connect } from 'node:net';
import { type TestContext, test } from 'node:test';
import { Access } from '../../../src/service/access.ts';
import type { Route } from '../../../src/service/route.ts';
import { Service } from '../../../src/service/server.ts';
import type { Stream } from '../../../src/service/stream.ts';
import type { Answer } from '../../../src/telemetry/answer.ts';
import { freePort } from '../../support/programs/net.ts';

const ok = (body: string): Answer => ({ status: 200, contentType: 'text/plain', body });

type Make = (accept: string) => Answer;
const LOOPBACK = { host: '127.0.0.1', port: 1 };
const access = new Access(LOOPBACK, undefined);

/** @param costly paths whose answers cost much */
function routesOf(answers: Record<string, Make>, costly: readonly string[] = []): Route[] {
  return Object.entries(answers).map(([path, make]) => ({
    path,
    kind: costly.includes(path) ? 'costly' : 'probe',
    answer: ({ fields }) => make(fields.get('accept') ?? ''),
  }));
}

async function listen(t: TestContext, routes: readonly Route[], options = { access }): Promise<string> {
  const port = await freePort();
  const service = await Service.open({ host: '127.0.0.1', port }, routes, options);
  t.after(() => service.close());
  return `http://127.0.0.1:${port}`;
}

const open = (t: TestContext, answers: Record<string, Make>): Promise<string> => listen(t, routesOf(answers));

test('GET and HEAD by path, whatever the query; what was asked for is told', async (t) => {
  const url = await open(t, { '/a': (accept) => ok(`accepts ${accept}\n`) });
  const got = await fetch(`${url}/a?x=1`, { headers: { accept: 'text/x' } });
  assert.deepEqual(
    [got.status, await got.text(), got.headers.get('cache-control')],
    [200, 'accepts text/x\n', 'no-store'],
  );
  const head = await fetch(`${url}/a`, { method: 'HEAD', headers: { accept: 'é'.repeat(3) } });
  assert.deepEqual([head.status, await head.text()], [200, '']);
  assert.equal(head.headers.get('content-length'), String(Buffer.byteLength(`accepts ${'é'.repeat(3)}\n`)));
});

test('anything else is refused', async (t) => {
  const url = await open(t, { '/a': () => ok(''), '/b': () => ok('') });
  const missing = await fetch(`${url}/`);
  assert.deepEqual([missing.status, await missing.text()], [404, 'there is: /a, /b\n']);
  const posted = await fetch(`${url}/a`, { method: 'POST', body: 'x'.repeat(100_000) });
  assert.deepEqual([posted.status, posted.headers.get('allow')], [405, 'GET, HEAD']);
});

test('a route that throws costs an answer, and what it says is not told', async (t) => {
  const url = await open(t, {
    '/bad': () => {
      throw new TypeError('something of the traffic');
    },
    '/good': () => ok('good'),
  });
  const bad = await fetch(`${url}/bad`);
  assert.deepEqual([bad.status, await bad.text()], [500, 'TypeError\n']);
  assert.equal(await (await fetch(`${url}/good`)).text(), 'good');
});

test('an address that cannot be had: why', async (t) => {
  const url = await open(t, {});
  const port = Number(new URL(url).port);
  const at = (host: string) => Service.open({ host, port }, [], { access });
  await assert.rejects(at('127.0.0.1'), {
    message: `cannot listen on 127.0.0.1:${port}: the port is in use`,
  });
  await assert.rejects(at('192.0.2.1'), {
    message: `cannot listen on 192.0.2.1:${port}: this machine has no such address`,
  });
  await assert.rejects(at('2001:db8::1'), /^Error: cannot listen on \[2001:db8::1\]:/);
});

test('the address that a client has connected to is told; closing ends connections that are kept', async () => {
  const port = await freePort();
  const addresses: string[] = [];
  const onLocalAddress = (address: string): void => void addresses.push(address);
  const endpoint = await Service.open({ host: '', port }, [], { access, onLocalAddress });
  const client = connect({ host: '127.0.0.1', port });
  client.on('error', () => {});
  await once(client, 'connect');
  client.write('GET / HTTP/1.1\r\nHost: x\r\n\r\n');
  await once(client, 'data');
  assert.equal(addresses.length, 1);
  assert.match(addresses[0]!, /^(?:::ffff:)?127\.0\.0\.1$/);
  endpoint.close();
  await once(client, 'close');
});

const GET = (path: string): string => `GET ${path} HTTP/1.1\r\nHost: x\r\n\r\n`;

/** Connections that stay, and say something or nothing. */
async function crowd(t: TestContext, url: string, number: number, words: string | ((index: number) => string)) {
  const { hostname, port } = new URL(url);
  const sockets = [];
  for (let index = 0; index < number; index++) {
    const socket = connect({ host: hostname, port: Number(port) });
    socket.on('error', () => {});
    t.after(() => socket.destroy());
    await once(socket, 'connect');
    socket.write(typeof words === 'string' ? words : words(index));
    sockets.push(socket);
  }
  return sockets;
}

/** The slowest of so many probes, one after the other. */
async function slowestProbe(url: string, probes = 10): Promise<number> {
  let slowest = 0;
  for (let probe = 0; probe < probes; probe++) {
    const begunMs = performance.now();
    const answer = await fetch(`${url}/healthz`, { signal: AbortSignal.timeout(5000) });
    assert.equal(await answer.text(), 'alive');
    assert.equal(answer.headers.get('connection'), 'close', 'a probe keeps no place');
    slowest = Math.max(slowest, performance.now() - begunMs);
  }
  return slowest;
}

/** A route whose streams get a megabyte in a second, as from a busy feed. */
function streaming(t: TestContext): { route: Route; streams: Stream[]; flood: () => void } {
  const streams: Stream[] = [];
  const line = `${'x'.repeat(999)}\n`;
  const start = (stream: Stream): void => {
    streams.push(stream);
  };
  const flood = (): void => {
    const timer = setInterval(() => {
      for (const stream of streams) for (let i = 0; i < 20; i++) stream.write(line);
    }, 20);
    t.after(() => clearInterval(timer));
  };
  const route: Route = { path: '/stream', kind: 'traffic', answer: () => ({ contentType: 'text/plain', start }) };
  return { route, streams, flood };
}

const BIG = 'x'.repeat(4 * 1024 * 1024);
const strangers: Readonly<Record<string, string | ((index: number) => string)>> = {
  'that asked once and are kept': GET('/metrics'),
  'that keep silent': '',
  'that never end their head': 'GET /metrics HTTP/1.1\r\nX: ',
  'that send no body after they announced one': 'POST /metrics HTTP/1.1\r\nHost: x\r\nContent-Length: 100000\r\n\r\n',
  'that ask a thousand times at once': GET('/metrics').repeat(1000),
  'that never take what they asked for': GET('/big'),
  'that never take a stream': GET('/stream').replace('Host: x', 'Host: localhost'),
  'that are refused a stream': GET('/stream'),
  'that ask for a stream a thousand times at once': GET('/stream').replace('Host: x', 'Host: 127.0.0.1').repeat(1000),
};

for (const [name, words] of Object.entries(strangers)) {
  test(`probes are answered beside 200 connections ${name}`, async (t) => {
    const answers = { '/healthz': () => ok('alive'), '/metrics': () => ok('metrics'), '/big': () => ok(BIG) };
    const { flood, route } = streaming(t);
    const url = await listen(t, [...routesOf(answers, ['/metrics', '/big']), route]);
    flood();
    for (const socket of await crowd(t, url, 200, words)) socket.pause();
    assert.ok((await slowestProbe(url)) < 1000);
  });
}

test('an answer that costs much is made a few times a second, however often it is asked for', async (t) => {
  let made = 0;
  const url = await listen(t, routesOf({ '/metrics': () => ok(String(++made)) }, ['/metrics']));
  const begunMs = performance.now();
  for (let asked = 0; asked < 200; asked++) {
    const answer = await fetch(`${url}/metrics`);
    assert.equal(answer.status, 200);
    await answer.text();
  }
  const seconds = (performance.now() - begunMs) / 1000;
  assert.ok(made <= 4 + 4 * seconds + 1, `${made} in ${seconds} s`);
});

test('a request at every split, with what follows it, and what is none', async (t) => {
  const url = await open(t, { '/a': (accept) => ok(`<${accept}>`) });
  const say = async (...pieces: string[]): Promise<string> => {
    const [socket] = await crowd(t, url, 1, '');
    let answer = '';
    socket!.setEncoding('latin1').on('data', (words: string) => {
      answer += words;
    });
    for (const piece of pieces) {
      if (!socket!.destroyed) socket!.write(piece, 'latin1');
      await new Promise((resolve) => setImmediate(resolve));
    }
    if (!socket!.closed) await once(socket!, 'close');
    return answer;
  };
  const request = 'GET http://x/a?b HTTP/1.0\r\nACCEPT: \tx \r\nB: c\r\naccept:y\r\n\r\n';
  for (let at = 1; at < request.length; at += 5) {
    const answer = await say(request.slice(0, at), request.slice(at), 'GET /a HTTP/1.1\r\n\r\n');
    assert.match(answer, /^HTTP\/1\.1 200 OK\r\n.*\r\n\r\n<x, y>$/s);
  }
  for (const other of ['\r\n\r\n', 'GET /a\r\n\r\n', 'GET  /a HTTP/1.1\r\n\r\n', 'PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n']) {
    assert.match(await say(other), /^HTTP\/1\.1 400 /);
  }
  assert.match(await say('GET /a HTTP/1.1\r\nX: ', 'x'.repeat(20_000)), /^HTTP\/1\.1 431 /);
});

test('a stream goes on until one side ends it, in chunks or, for HTTP/1.0, to the end', async (t) => {
  const { route, streams } = streaming(t);
  const port = await freePort();
  const service = await Service.open({ host: '127.0.0.1', port }, [route], { access });
  t.after(() => service.close());
  const url = `http://127.0.0.1:${port}`;
  const answer = await fetch(`${url}/stream`);
  assert.deepEqual([answer.status, answer.headers.get('transfer-encoding')], [200, 'chunked']);
  streams[0]!.write('one\n');
  streams[0]!.write('zwölf\n');
  setTimeout(() => service.close(), 50);
  assert.equal(await answer.text(), 'one\nzwölf\n', 'what was written arrives, and the end is in order');
  assert.equal(streams[0]!.write('late'), false);
});

test('a stream of HTTP/1.0, of HEAD, and of a reader that goes', async (t) => {
  const { route, streams } = streaming(t);
  const url = await listen(t, [route]);
  const [old] = await crowd(t, url, 1, 'GET /stream HTTP/1.0\r\nHost: localhost\r\n\r\n');
  let text = '';
  old!.setEncoding('latin1').on('data', (bytes: string) => {
    text += bytes;
  });
  await once(old!, 'data');
  streams[0]!.write('plain\n');
  streams[0]!.end();
  await once(old!, 'close');
  assert.match(text, /^HTTP\/1\.1 200 OK\r\n(?!.*chunked).*\r\n\r\nplain\n$/s);
  assert.equal((await fetch(`${url}/stream`, { method: 'HEAD' })).status, 200);
  const gone = new AbortController();
  await fetch(`${url}/stream`, { signal: gone.signal });
  const closed = new Promise<void>((resolve) => streams[1]!.onClose(resolve));
  gone.abort();
  await closed;
  assert.equal(streams.length, 2, 'HEAD began none');
});

test('so many streams, and no more; a slow reader loses what it does not take, and nobody waits', async (t) => {
  const { route, streams } = streaming(t);
  const url = await listen(t, [...routesOf({ '/healthz': () => ok('alive') }), route]);
  const sockets = await crowd(t, url, 9, GET('/stream').replace('Host: x', 'Host: localhost'));
  const [bytes] = (await once(sockets[8]!, 'data')) as [Buffer];
  assert.match(bytes.toString(), /^HTTP\/1\.1 503 /);
  assert.equal(streams.length, 8);
  for (const socket of sockets) socket.pause();
  const line = 'x'.repeat(64 * 1024);
  let taken = 0;
  while (streams[0]!.write(line)) taken++;
  assert.ok(taken > 10 && taken < 20, String(taken));
  assert.ok((await slowestProbe(url, 3)) < 1000);
});
