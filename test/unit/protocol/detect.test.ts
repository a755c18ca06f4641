import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import { type Connection, FROM_CLIENT, FROM_SERVER, type Layer, type TlsInfo } from '../../../src/flow/connection.ts';
import { createDetectLayer } from '../../../src/protocol/detect.ts';
import { createHttp1Protocol } from '../../../src/protocol/http1/protocol.ts';
import type { Detection, Protocol } from '../../../src/protocol/layer.ts';
import { createMysqlProtocol } from '../../../src/protocol/mysql/protocol.ts';
import { Bench, keepHeaders, newConnection, readCases } from '../../support/protocols/cases.ts';
import { facts, http2, request, response, Script } from '../../support/protocols/http2.ts';
import { newSqlAnalyser } from '../../support/wire/protocols.ts';

const http = createHttp1Protocol({ keepHeaders });

/** A protocol that begins with `magic`, in one direction or in both; its layer writes down what it is given. */
function recording(
  name: string,
  magic: readonly [string | undefined, string | undefined],
): Protocol & { log: string[] } {
  const log: string[] = [];
  const layer: Layer = {
    data: (direction, bytes, start, end, timeUs) =>
      log.push(`${direction} ${bytes.toString('latin1', start, end)} ${timeUs}`),
    gap: (direction, length, timeUs) => log.push(`${direction} gap ${length} ${timeUs}`),
    end: (direction, reason, timeUs) => log.push(`${direction} end ${reason} ${timeUs}`),
    close: (reason, timeUs) => log.push(`close ${reason} ${timeUs}`),
    tick: (timeUs) => log.push(`tick ${timeUs}`),
  };
  return {
    name,
    log,
    detect(direction, bytes, start, end): Detection {
      const expected = magic[direction];
      if (expected === undefined) return 'maybe';
      const seen = bytes.toString('latin1', start, Math.min(end, start + expected.length));
      if (!expected.startsWith(seen)) return 'no';
      return seen === expected ? 'yes' : 'maybe';
    },
    create: () => layer,
  };
}

function bench(candidates: readonly Protocol[], startSeen = true, connection: Partial<Connection> = {}): Bench {
  return new Bench((context) => createDetectLayer(context, candidates), {
    startSeen,
    connection,
    limits: { detectionBytes: 64, detectionTries: 4 },
  });
}

const c = (b: Bench, text: string, timeUs: number): void => b.feed(FROM_CLIENT, Buffer.from(text, 'latin1'), timeUs);
const s = (b: Bench, text: string, timeUs: number): void => b.feed(FROM_SERVER, Buffer.from(text, 'latin1'), timeUs);

function tls(alpn: string | undefined): Partial<Connection> {
  const info: TlsInfo = { version: '1.3', cipherSuite: '', serverName: undefined, alpn, clientRandom: undefined };
  return { tls: info };
}

describe('detection', () => {
  test('HTTP cases come out the same through the detector, whole and byte by byte', () => {
    for (const example of readCases('http1/framing.txt')) {
      const whole = bench([recording('tls', ['\x16\x03', '\x16\x03']), http]).run(example.steps);
      whole.close('fin', 1e9);
      assert.deepEqual(whole.emitted, example.expected, example.name);
      if (example.flags.has('nosplit')) continue;
      const bytewise = bench([http]);
      for (const step of example.steps) {
        if (step.kind !== 'data') bytewise.run([step]);
        else for (const byte of step.bytes) bytewise.feed(step.direction, Buffer.from([byte]), step.timeUs);
      }
      bytewise.close('fin', 1e9);
      assert.deepEqual(bytewise.emitted, example.expected, `${example.name}, byte by byte`);
    }
  });

  test('what was kept is replayed in the order and with the times of its arrival', () => {
    const a = recording('a', ['hello', undefined]);
    const b = bench([a, recording('b', ['world', undefined])]);
    s(b, 'banner', 1);
    c(b, 'he', 2);
    s(b, '!', 3);
    b.layer.end(FROM_SERVER, 'fin', 4);
    assert.deepEqual(a.log, []);
    c(b, 'llo there', 5);
    c(b, 'more', 6);
    b.layer.tick?.(7);
    b.close('reset', 8);
    const data = [
      '1 banner 1',
      '0 he 2',
      '1 ! 3',
      '1 end fin 4',
      '0 llo there 5',
      '0 more 6',
      'tick 7',
      'close reset 8',
    ];
    assert.deepEqual(a.log, data);
    assert.deepEqual(b.counters.connections.unrecognised, {});
  });

  test('evidence of the other direction decides between two', () => {
    const a = recording('a', ['x', 'A']);
    const z = recording('z', ['x', 'Z']);
    const b = bench([a, z]);
    c(b, 'x', 1);
    assert.deepEqual([a.log, z.log], [[], []]);
    s(b, 'Z', 2);
    assert.deepEqual([a.log, z.log], [[], ['0 x 1', '1 Z 2']]);
  });

  test('two that never differ are ambiguous', () => {
    const b = bench([recording('a', ['x', undefined]), recording('b', ['x', undefined])]);
    c(b, 'x'.repeat(70), 1);
    assert.deepEqual(b.counters.connections.unrecognised, { ambiguous: 1 });
    assert.equal(b.muted, 1);
  });

  test('of two that never differ, the one whose port it is', () => {
    const a = recording('a', ['x', undefined]);
    const z = { ...recording('z', ['x', undefined]), ports: [80] };
    const connection = newConnection(true);
    const b = new Bench((context) => createDetectLayer(context, [a, z]), {
      limits: { detectionBytes: 64 },
      connection: { server: { ...connection.server, port: 80 } },
    });
    c(b, 'x'.repeat(70), 1);
    assert.deepEqual([a.log, z.log], [[], [`0 ${'x'.repeat(70)} 1`]]);
    assert.deepEqual(b.counters.connections.unrecognised, {});
  });

  test('nobody knows it: counted, muted, released, once', () => {
    const b = bench([http]);
    c(b, 'EHLO example.org\r\n', 1);
    c(b, 'GET / HTTP/1.1\r\n\r\n', 2);
    b.close('fin', 3);
    assert.deepEqual(b.counters.connections.unrecognised, { no_match: 1 });
    assert.equal(b.muted, 1);
    assert.equal((b.layer as unknown as { heldBytes: number }).heldBytes, 0);
  });

  test('other protocols are not taken for HTTP', () => {
    const firsts = [
      '\0\0\0\x08\x04\xd2\x16\x2f',
      '*1\r\n$4\r\nPING\r\n',
      'INVITE sip:x SIP/2.0\r\n',
      'OPTIONS rtsp://x RTSP/1.0\r\n',
      'SSH-2.0-OpenSSH_9.2\r\n',
      '\x16\x03\x01\x02\0\x01',
      'USER anonymous\r\n',
      'GET /\r\n',
    ];
    for (const first of firsts) {
      const b = bench([http]);
      c(b, first, 1);
      b.close('fin', 2);
      const { unrecognised } = b.counters.connections;
      assert.equal((unrecognised.no_match ?? 0) + (unrecognised.closed ?? 0), 1, JSON.stringify(first));
      assert.deepEqual(b.counters.exchanges, {});
    }
  });

  test('undecided when the limit passes, and when the connection ends', () => {
    const a = recording('a', ['x'.repeat(100), undefined]);
    const full = bench([a]);
    for (let i = 0; i < 100; i++) c(full, 'x', i);
    assert.deepEqual(full.counters.connections.unrecognised, { limit: 1 });
    const ended = bench([a]);
    c(ended, 'x', 1);
    ended.close('fin', 2);
    assert.deepEqual(ended.counters.connections.unrecognised, { closed: 1 });
    const silent = bench([a]);
    silent.close('fin', 1);
    assert.deepEqual(silent.counters.connections.unrecognised, {});
  });

  test('a long target is recognised within the limit', () => {
    const b = bench([http]);
    const target = `/${'a'.repeat(10_000)}`;
    c(b, `GET ${target} HTTP/1.1\r\n`, 1);
    c(b, '\r\n', 2);
    s(b, 'HTTP/1.1 204 No Content\r\n\r\n', 3);
    assert.equal(b.exchanges[0]?.target, target);
  });
});

describe('detection of HTTP/2 and by ALPN', () => {
  const exchange = (): Script => {
    const script = new Script();
    return script.c(script.ask(1, request('/a'))).s(script.answer(1, response(204)));
  };

  test('prior knowledge: by the preface, whole and byte by byte', () => {
    const { steps } = exchange();
    const whole = bench([http, http2]).run(steps);
    assert.deepEqual(facts(whole), ['GET /a -> 204 0/0']);
    const bytewise = bench([http, http2]);
    for (const step of steps) {
      if (step.kind !== 'data') continue;
      for (const byte of step.bytes) bytewise.feed(step.direction, Buffer.from([byte]), step.timeUs);
    }
    assert.deepEqual(bytewise.emitted, whole.emitted);
  });

  test('the server may speak first', () => {
    const [first, second, ...rest] = exchange().steps;
    const b = bench([http, http2]).run([second!, first!, ...rest]);
    assert.deepEqual(facts(b), ['GET /a -> 204 0/0']);
  });

  test('ALPN h2: at once, without looking', () => {
    const b = bench([http, http2], true, tls('h2'));
    b.feed(FROM_SERVER, Buffer.from([0]), 1);
    assert.equal((b.layer as unknown as { heldBytes: number }).heldBytes, 0);
  });

  test('a connection that is older than the capture, by its frames', () => {
    const script = new Script(false);
    for (let id = 1; id < 8; id += 2) {
      script.c(script.ask(id, request('/a', ['user-agent', 'u']))).s(script.answer(id, response(204)));
    }
    const b = bench([http, http2], false).run(script.steps);
    assert.deepEqual(facts(b), new Array(4).fill('GET /a -> 204 0/0'));
  });

  test('what begins with zeroes is not taken for frames', () => {
    for (const first of [
      '\0\0\0\x08\x04\xd2\x16\x2f',
      '\0\0\0\0\0\0\0\0\0',
      '\0\0\0\x2a\0\x12\0\x04\0',
      '\0\0\x05\x03\0\0\0\0\x01',
    ]) {
      const b = bench([http2]);
      c(b, first, 1);
      assert.deepEqual(b.counters.connections.unrecognised, { no_match: 1 }, JSON.stringify(first));
    }
  });

  test('ALPN http/1.1: at once, without looking', () => {
    const b = bench([http], true, tls('http/1.1'));
    c(b, 'G', 1);
    assert.equal((b.layer as unknown as { heldBytes: number }).heldBytes, 0);
    c(b, 'ET / HTTP/1.1\r\n\r\n', 2);
    s(b, 'HTTP/1.1 204 No Content\r\n\r\n', 3);
    assert.equal(b.exchanges[0]?.startUs, 1);
  });

  test('TLS without ALPN is looked into', () => {
    const b = bench([http], true, tls(undefined));
    c(b, 'GET / HTTP/1.1\r\n\r\n', 2);
    s(b, 'HTTP/1.1 204 No Content\r\n\r\n', 3);
    assert.equal(b.exchanges.length, 1);
  });
});

describe('detection without the start', () => {
  const exchange = (b: Bench, timeUs: number): void => {
    c(b, 'GET /x HTTP/1.1\r\n\r\n', timeUs);
    s(b, 'HTTP/1.1 204 No Content\r\n\r\n', timeUs + 1);
  };

  test('a connection joined in mid-download is recognised at its next request', () => {
    const b = bench([http], false);
    for (let i = 0; i < 1000; i++) s(b, `\0binary ${i}`, i);
    exchange(b, 2000);
    assert.deepEqual(b.emitted, ['GET /x 1.1 -> 204 in=0 out=0 at=0 times=2000,2000,2001,2001 |']);
  });

  test('and in mid-upload, with the true offset', () => {
    const b = bench([http], false);
    for (let i = 0; i < 100; i++) c(b, '\0\x01\x02', i);
    s(b, 'HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n', 500);
    exchange(b, 2000);
    assert.deepEqual(b.emitted, ['GET /x 1.1 -> 204 in=0 out=0 at=300 times=2000,2000,2001,2001 |']);
    b.close('fin', 3000);
    assert.deepEqual(b.counters.incomplete, { request_not_seen: 1 });
  });

  test('tries are bounded', () => {
    const b = bench([http], false);
    for (let i = 0; i < 10; i++) {
      c(b, '\0\x01', i * 10);
      s(b, '\0\x02', i * 10 + 1);
    }
    assert.deepEqual(b.counters.connections.unrecognised, { start_not_seen: 1 });
    assert.equal(b.muted, 1);
  });

  test('the first segment was lost', () => {
    const b = bench([http]);
    b.layer.gap(FROM_CLIENT, 10, 1);
    c(b, 'TP/1.1\r\n\r\n', 2);
    s(b, 'HTTP/1.1 204 No Content\r\n\r\n', 3);
    exchange(b, 4);
    b.close('fin', 9);
    assert.deepEqual(b.emitted, ['GET /x 1.1 -> 204 in=0 out=0 at=20 times=4,4,5,5 |']);
    assert.deepEqual(b.counters.incomplete, { request_not_seen: 1 });
  });

  test('a hole while it is undecided', () => {
    const a = recording('a', ['hello', undefined]);
    const b = bench([a]);
    c(b, 'he', 1);
    b.layer.gap(FROM_CLIENT, 100, 2);
    b.layer.gap(FROM_CLIENT, 5, 3);
    s(b, 'x', 4);
    c(b, 'hello', 5);
    assert.deepEqual(a.log, ['0 gap 107 1', '1 x 4', '0 hello 5']);
  });
});

describe('what is held of a connection without its start does not spoil what comes next', () => {
  const two = () => [recording('a', ['hello', 'HELLO']), recording('b', ['help', 'HELP'])];

  test('a message that nobody knows together with it is tried alone, and known by its answer', () => {
    for (const held of ['h', 'he', 'hel']) {
      const candidates = two();
      const b = bench(candidates, false);
      c(b, held, 1);
      s(b, 'other', 2);
      c(b, 'hello', 3);
      assert.deepEqual(candidates[0]!.log, [`0 gap ${held.length} 1`, '1 gap 5 2', '0 hello 3']);
    }
  });

  test('a message that is known alone, while both together still may be something', () => {
    const a = recording('a', ['x'.repeat(60), undefined]);
    const b = recording('b', ['xy', undefined]);
    const any: Protocol = { ...a, name: 'any', detect: () => 'maybe' };
    const layer = bench([any, b], false);
    c(layer, 'x', 1);
    s(layer, '?', 2);
    c(layer, 'xy', 3);
    assert.deepEqual(b.log, ['0 gap 1 1', '1 ? 2', '0 xy 3']);
  });

  test('what goes on where the held bytes end is one message with them', () => {
    const [a] = two();
    const b = bench([a!], false);
    c(b, 'he', 1);
    s(b, 'x', 2);
    c(b, 'llo', 3);
    assert.deepEqual(a!.log, ['0 he 1', '1 gap 1 2', '0 llo 3']);
  });

  test('of a connection whose start was seen nothing is passed over', () => {
    const [a] = two();
    const b = bench([a!]);
    c(b, 'he', 1);
    s(b, 'H', 2);
    c(b, 'hello', 3);
    assert.deepEqual(a!.log, []);
    assert.deepEqual(b.counters.connections.unrecognised, { no_match: 1 });
  });

  test('what is passed over is a try: their number is bounded', () => {
    const [a] = two();
    const b = bench([a!], false);
    for (let i = 0; i < 10; i++) {
      c(b, 'he', i * 10);
      s(b, 'x', i * 10 + 1);
    }
    assert.deepEqual(b.counters.connections.unrecognised, { start_not_seen: 1 });
    assert.equal(b.muted, 1);
  });

  test('a MySQL command whose answer told nothing, before one that is known', () => {
    const mysql = createMysqlProtocol({ analyser: newSqlAnalyser('mysql') });
    const packet = (sequence: number, payload: string): string =>
      `${String.fromCharCode(payload.length & 0xff, payload.length >> 8, 0, sequence)}${payload}`;
    const seen = recording('mysql', [undefined, undefined]);
    const b = bench([http, { ...mysql, create: seen.create }], false);
    c(b, packet(0, '\x03set @@SQL_SELECT_LIMIT=60001'), 1);
    s(b, packet(1, '\0\0\0\x00\x40\0\0'), 2); // session state changed, no autocommit
    c(b, packet(0, `\x03INSERT INTO t VALUES ('${'x'.repeat(30)}')`), 3);
    s(b, packet(1, '\0\x01\0\x01\0\0\0'), 4);
    assert.deepEqual(
      seen.log.map((entry) => entry.slice(0, 12)),
      ['0 gap 33 1', '1 gap 11 2', '0 8\0\0\0\x03INSER', '1 \x07\0\0\x01\0\x01\0\x01\0\0'],
    );
  });
});

test('after detection a call is handed on as it is', () => {
  const seen: Parameters<Layer['data']>[] = [];
  const layer: Layer = { data: (...call) => seen.push(call), gap() {}, end() {}, close() {} };
  const b = bench([{ name: 'a', detect: () => 'yes', create: () => layer }]);
  const bytes = Buffer.from('abc');
  b.layer.data(FROM_CLIENT, bytes, 0, 3, 2, 1);
  b.layer.data(FROM_SERVER, bytes, 1, 2, 3);
  assert.deepEqual(seen, [
    [FROM_CLIENT, bytes, 0, 3, 2, 1],
    [FROM_SERVER, bytes, 1, 2, 3, 3],
  ]);
  assert.equal(seen[1]?.[1], bytes);
});
