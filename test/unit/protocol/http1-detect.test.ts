/** What is taken for HTTP/1, by the client's bytes alone or by those of both ends, and what is not. */
import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import { FROM_CLIENT, FROM_SERVER } from '../../../src/flow/connection.ts';
import { createDetectLayer } from '../../../src/protocol/detect.ts';
import { Bench } from '../../support/protocols/cases.ts';
import { newProtocols } from '../../support/wire/protocols.ts';

// Redis knows inline commands that look like requests: test/unit/protocol/redis-detect.test.ts.
const protocols = newProtocols().filter(({ name }) => name !== 'redis');
const OK = 'HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n';
const BAD = 'HTTP/1.1 400 Bad Request\r\nContent-Length: 0\r\nConnection: close\r\n\r\n';

function converse(client: readonly string[], server: readonly string[], startSeen = true): Bench {
  const bench = new Bench((context) => createDetectLayer(context, protocols), { startSeen });
  for (const text of client) bench.feed(FROM_CLIENT, Buffer.from(text, 'latin1'), 1);
  for (const text of server) bench.feed(FROM_SERVER, Buffer.from(text, 'latin1'), 2);
  bench.close('fin', 3);
  return bench;
}

/** The client's bytes whole, cut at each place (of long ones at some), and byte by byte. */
function* cuts(text: string): Generator<string[]> {
  yield [text];
  for (let at = 1; at < text.length; at += text.length > 600 ? 97 : 1) yield [text.slice(0, at), text.slice(at)];
  yield [...text];
}

const said = (bench: Bench): string[] =>
  bench.exchanges.map(({ method, target, statusCode }) => `${method} ${target} ${statusCode}`);

describe('requests that servers answer', () => {
  const long = `/${'p/q?r=s&'.repeat(625)}`;
  const cases: readonly (readonly [name: string, line: string, expected: string])[] = [
    ['a registered method with a long target', `SEARCH ${long} HTTP/1.1`, `SEARCH ${long} 200`],
    ['a method of our own with a long target', `X-FIND ${long} HTTP/1.1`, `X-FIND ${long} 200`],
    ['a long target in absolute form', `X-FIND http://a.example${long} HTTP/1.1`, `X-FIND http://a.example${long} 200`],
    ['a long method', `${'LONG-'.repeat(40)}METHOD /x HTTP/1.1`, `${'LONG-'.repeat(40)}METHOD /x 200`],
    ['a version with a suffix', 'GET /x?y HTTP/1.0.8', 'GET /x?y 200'],
    ['tabs and many spaces', 'GET\t  /x \t HTTP/1.1', 'GET /x 200'],
    ['the authority form', 'CONNECT a.example:443 HTTP/1.1', 'CONNECT a.example:443 200'],
  ];
  for (const [name, line, expected] of cases) {
    test(name, () => {
      for (const client of cuts(`${line}\r\nHost: x\r\n\r\n`)) {
        const bench = converse(client, [OK]);
        assert.deepEqual(said(bench), [expected]);
        assert.deepEqual([bench.counters.parseErrors, bench.counters.incomplete], [{}, {}]);
      }
    });
  }

  test('a target of any length, of which the limit of detection sees the beginning', () => {
    const target = `/${'x'.repeat(60_000)}`;
    for (const method of ['GET', 'FROB']) {
      const request = `${method} ${target} HTTP/1.1\r\n\r\n`;
      const segments = Array.from({ length: Math.ceil(request.length / 1400) }, (_, i) =>
        request.slice(i * 1400, (i + 1) * 1400),
      );
      assert.deepEqual(said(converse(segments, [OK])), [`${method} ${target} 200`]);
    }
  });

  test('control characters in the target: the status line says that it was a request', () => {
    for (const method of ['GET', 'FROB'])
      for (const client of cuts(`${method} /a\x01b HTTP/1.1\r\nHost: x\r\n\r\n`)) {
        const bench = converse(client, [BAD]);
        // A method that is not known, and bytes that no target may have, speak of another protocol until the line is whole.
        if (said(bench).length === 0) assert.deepEqual(bench.counters.connections.unrecognised, { no_match: 1 });
        else assert.deepEqual(said(bench), [`${method} /a%01b 400`]);
        if (method === 'GET') assert.equal(said(bench).length, 1);
      }
    const unanswered = converse(['GET /a\x01b HTTP/1.1\r\nHost: x\r\n\r\n'], []);
    assert.deepEqual(unanswered.counters.connections.unrecognised, { closed: 1 });
  });
});

describe('other protocols stay what they are', () => {
  const long = 'k'.repeat(300);
  const cases: readonly (readonly [name: string, client: string, server: string])[] = [
    ['SMTP, the server first', 'EHLO example.org\r\nMAIL FROM:<a@b>\r\n', '220 mx ESMTP\r\n250 ok\r\n'],
    ['FTP', `RETR /${long}\r\n`, '220 ready\r\n'],
    ['IRC', 'NICK somebody\r\nUSER a 0 * :b\r\nJOIN /x\r\n', ':irc.example 001 somebody :hello\r\n'],
    ['Redis inline', 'GET key\r\n', '$2\r\nab\r\n'],
    ['Redis inline, a key like a path', `GET /${long}\r\n`, '$-1\r\n'],
    ['Redis inline, several', 'SET /a HTTP/1\r\nGET /a\r\n', '+OK\r\n$6\r\nHTTP/1\r\n'],
    ['Redis RESP', '*2\r\n$3\r\nGET\r\n$1\r\na\r\n', '$-1\r\n'],
    ['memcached', `get /${long.slice(50)}\r\n`, 'END\r\n'],
    ['RTSP', 'OPTIONS rtsp://a.example/x RTSP/1.0\r\nCSeq: 1\r\n\r\n', 'RTSP/1.0 200 OK\r\nCSeq: 1\r\n\r\n'],
    ['SIP', 'OPTIONS sip:a@b SIP/2.0\r\nVia: SIP/2.0/TCP x\r\n\r\n', 'SIP/2.0 200 OK\r\n\r\n'],
    ['ICAP', 'REQMOD icap://a.example/x ICAP/1.0\r\nHost: x\r\n\r\n', 'ICAP/1.0 200 OK\r\n\r\n'],
    ['POP3', 'USER somebody\r\nPASS x\r\n', '+OK ready\r\n'],
    ['IMAP', 'a1 LOGIN somebody x\r\n', '* OK ready\r\n'],
    ['NNTP', 'GROUP comp.lang\r\n', '200 ready\r\n'],
    ['Gopher', '/a path\r\n', 'iHTTP/1.1 200\r\n'],
    ['a line of Graphite', 'HTTP/1.requests 17 1700000000\r\n', ''],
    ['SSH', 'SSH-2.0-OpenSSH_9\r\n', 'SSH-2.0-OpenSSH_9\r\n'],
  ];
  for (const [name, client, server] of cases) {
    test(name, () => {
      for (const parts of cuts(client)) {
        for (const serverFirst of [false, true]) {
          const bench = serverFirst ? new Bench((context) => createDetectLayer(context, protocols)) : undefined;
          if (bench !== undefined) {
            bench.feed(FROM_SERVER, Buffer.from(server), 1);
            for (const part of parts) bench.feed(FROM_CLIENT, Buffer.from(part), 2);
            bench.close('fin', 3);
          }
          const { exchanges, counters } = bench ?? converse(parts, server === '' ? [] : [server]);
          assert.deepEqual(exchanges, []);
          assert.deepEqual([counters.parseErrors, counters.incomplete], [{}, {}]);
          assert.deepEqual(Object.values(counters.connections.unrecognised), [1]);
        }
      }
    });
  }
});
