import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import { FROM_CLIENT, FROM_SERVER, type Layer } from '../../../src/flow/connection.ts';
import { createDetectLayer } from '../../../src/protocol/detect.ts';
import { probeReply, probeRequest } from '../../../src/protocol/redis/probe.ts';
import { Bench } from '../../support/protocols/cases.ts';
import { protocols } from '../../support/protocols/documents.ts';

/** What the detection makes of both directions: `redis`, another name, or nothing. */
function detected(client: string, server: string, startSeen = true): string {
  let name = '';
  const silent: Layer = { data() {}, gap() {}, end() {}, close() {} };
  const named = protocols.map((protocol) => ({
    ...protocol,
    create: () => {
      name = protocol.name;
      return silent;
    },
  }));
  const bench = new Bench((context) => createDetectLayer(context, named), { startSeen });
  if (client !== '') bench.feed(FROM_CLIENT, Buffer.from(client, 'latin1'), 1);
  if (server !== '') bench.feed(FROM_SERVER, Buffer.from(server, 'latin1'), 2);
  bench.close('fin', 3);
  return name;
}

describe('detection of Redis', () => {
  test('a command as an array is known by its name, an inline one by the answer, too', () => {
    assert.equal(detected('*1\r\n$4\r\nPING\r\n', ''), 'redis');
    assert.equal(detected('*2\r\n$3\r\nget\r\n$1\r\na\r\n', ''), 'redis');
    assert.equal(detected('*1\r\n$6\r\nfoobar\r\n', ''), '');
    assert.equal(detected('*1\r\n$6\r\nfoobar\r\n', '+OK\r\n'), 'redis');
    assert.equal(detected('PING\r\n', ''), '');
    assert.equal(detected('PING\r\n', '+PONG\r\n'), 'redis');
    assert.equal(detected('GET key\r\n', '$2\r\nab\r\n'), 'redis');
    assert.equal(detected('', '+OK\r\n'), '');
  });

  test('the ends change places when a command comes from the server', () => {
    assert.equal(probeRequest(Buffer.from('*1\r\n$4\r\nPING\r\n'), 0, 14), 'yes');
    assert.equal(probeReply(Buffer.from('*1\r\n$4\r\nPING\r\n'), 0, 14), 'likely');
  });

  test('other protocols are not taken for it', () => {
    const others = [
      ['get key\r\n', 'VALUE key 0 1\r\na\r\nEND\r\n'],
      ['set key 0 0 1\r\na\r\n', 'STORED\r\n'],
      ['QUIT\r\n', '221 bye\r\n'],
      ['AUTH PLAIN AGEAYg==\r\n', '235 ok\r\n'],
      ['USER somebody\r\n', '+OK\r\n'],
      ['AUTH PLAIN\r\n', '+ \r\n'],
      ['a1 LOGIN somebody x\r\n', '* OK ready\r\n'],
      ['EHLO example.org\r\n', '250 ok\r\n'],
      ['PING :server\r\n', ':server PONG\r\n'],
      ['SELECT 1\n', 'ok\n'],
    ];
    for (const [client, server] of others) {
      for (const startSeen of [true, false]) assert.notEqual(detected(client!, server!, startSeen), 'redis', client);
    }
    assert.equal(detected('GET /a HTTP/1.1\r\nHost: a\r\n\r\n', 'HTTP/1.1 200 OK\r\n\r\n'), 'http');
  });
});
