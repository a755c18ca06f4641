import assert from 'node:assert/strict';
import { once } from 'node:events';
import { connect } from 'node:net';
import { type TestContext, test } from 'node:test';
import { type Answer, Endpoint, type Route } from '../../../src/telemetry/endpoint.ts';
import { freePort } from '../../support/net.ts';

const ok = (body: string): Answer => ({ status: 200, contentType: 'text/plain', body });

async function open(t: TestContext, routes: Record<string, Route>): Promise<string> {
  const port = await freePort();
  const endpoint = await Endpoint.open({ host: '127.0.0.1', port }, new Map(Object.entries(routes)));
  t.after(() => endpoint.close());
  return `http://127.0.0.1:${port}`;
}

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
  const routes = new Map<string, Route>();
  await assert.rejects(Endpoint.open({ host: '127.0.0.1', port }, routes), {
    message: `cannot listen on 127.0.0.1:${port}: the port is in use`,
  });
  await assert.rejects(Endpoint.open({ host: '192.0.2.1', port }, routes), {
    message: `cannot listen on 192.0.2.1:${port}: this machine has no such address`,
  });
  await assert.rejects(
    Endpoint.open({ host: '2001:db8::1', port }, routes),
    /^Error: cannot listen on \[2001:db8::1\]:/,
  );
});

test('the address that a client has connected to is told; closing ends connections that are kept', async () => {
  const port = await freePort();
  const addresses: string[] = [];
  const endpoint = await Endpoint.open({ host: '', port }, new Map(), (address) => addresses.push(address));
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
