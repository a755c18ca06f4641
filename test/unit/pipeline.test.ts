import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import { SECRET_TLS12_MASTER, type SecretRecord } from '../../src/capture/records.ts';
import { Feed } from '../../src/export/feed.ts';
import type { Output } from '../../src/export/output.ts';
import { Views } from '../../src/export/views.ts';
import { Pipeline, type PipelineOptions } from '../../src/pipeline.ts';
import type { HttpExchange } from '../../src/protocol/http/exchange.ts';
import type { Protocol } from '../../src/protocol/layer.ts';
import { defaultAllLimits, protocolMappings, protocolViewers } from '../../src/protocol/registry.ts';
import { SecretStore } from '../../src/secrets/store.ts';
import { SpanBuilder } from '../../src/span/builder.ts';
import { defaultSamplingOptions } from '../../src/span/sampling.ts';
import { identityClock } from '../../src/telemetry/clock.ts';
import { newCounters } from '../../src/telemetry/counters.ts';
import { type PacketOptions, packetRecord } from '../support/wire/packets.ts';
import { newProtocols, sections } from '../support/wire/protocols.ts';

/** Throws where its connection's bytes say so: `die data`, `die end`, ... */
const fragile: Protocol = {
  name: 'fragile',
  detect: (_direction, bytes, start, end) => (bytes.toString('latin1', start, end).startsWith('die') ? 'yes' : 'no'),
  create() {
    let dies = '';
    const at = (where: string): void => {
      if (dies === where) throw new Error(`secret payload in ${where}`);
    };
    return {
      data(_direction, bytes, start, end) {
        dies ||= bytes.toString('latin1', start, end).slice(4);
        at('data');
      },
      gap: () => at('gap'),
      end: () => at('end'),
      close: () => at('close'),
      tick: () => at('tick'),
    };
  },
};

function assemble(options: Partial<PipelineOptions> = {}) {
  const counters = newCounters();
  const secrets = new SecretStore(defaultAllLimits, counters);
  const exchanges: HttpExchange[] = [];
  const errors: unknown[] = [];
  const output: Output = {
    exchange: (exchange) => void (exchange.protocol === 'http' && exchanges.push(exchange as HttpExchange)),
    heldBytes: 0,
    ready: () => undefined,
    state: () => undefined,
    shutdown: () => Promise.resolve(),
  };
  const pipeline = new Pipeline({
    limits: defaultAllLimits,
    counters,
    secrets,
    protocols: [...newProtocols(), fragile],
    spans: new SpanBuilder({
      mappings: protocolMappings,
      perspective: 'server',
      resources: { resourceOf: () => undefined },
      clock: identityClock,
      counters,
      config: sections(),
    }),
    outputs: [output],
    views: new Views({
      viewers: protocolViewers,
      clock: identityClock,
      resources: { resourceOf: () => undefined },
      config: sections(),
    }),
    onInternalError: (error) => errors.push(error),
    ...options,
  });
  const client = (srcPort: number, packet: PacketOptions): void =>
    pipeline.packet(packetRecord({ srcPort, ...packet }));
  const server = (dstPort: number, packet: PacketOptions): void =>
    pipeline.packet(packetRecord({ from: '10.0.0.2', to: '10.0.0.1', srcPort: 80, dstPort, ...packet }));
  return { pipeline, counters, secrets, exchanges, errors, client, server };
}

type Parts = ReturnType<typeof assemble>;

function exchange({ client, server }: Parts, port: number): void {
  client(port, { seq: 1, flags: 'S' });
  server(port, { seq: 1, ack: 2, flags: 'S' });
  client(port, { seq: 2, ack: 2, payload: `GET /${port} HTTP/1.1\r\n\r\n` });
  server(port, { seq: 2, ack: 3, payload: 'HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n' });
}

describe('an error that a stage should not have thrown', () => {
  for (const where of ['data', 'gap', 'end', 'close']) {
    test(`in ${where} costs its connection and no other`, () => {
      const parts = assemble();
      const { client, pipeline, counters, exchanges } = parts;
      client(5000, { seq: 1, flags: 'S' });
      client(5000, { seq: 2, payload: `die ${where}` });
      exchange(parts, 5001);
      const next = 2 + 4 + where.length;
      client(5000, { seq: next, payload: 'x'.repeat(10), snapLength: 45 }); // five bytes are a gap
      client(5000, { seq: next + 10, flags: 'F' });
      client(5000, { seq: next + 11, flags: 'R' });
      exchange(parts, 5002);
      pipeline.finish('shutdown', 2_000_000);
      assert.deepEqual(
        exchanges.map(({ target }) => target),
        ['/5001', '/5002'],
      );
      assert.deepEqual(counters.internalErrors, { connection: 1 });
      assert.equal(parts.errors.length, 1);
      assert.deepEqual(counters.connections.ended, { reset: 1, shutdown: 2 });
    });
  }

  test('in an output costs the exchange', () => {
    let calls = 0;
    const output: Output = {
      exchange() {
        if (calls++ === 0) throw new Error('no');
      },
      heldBytes: 0,
      ready: () => undefined,
      state: () => undefined,
      shutdown: () => Promise.resolve(),
    };
    const parts = assemble({ outputs: [output] });
    exchange(parts, 5001);
    exchange(parts, 5002);
    assert.equal(calls, 2);
    assert.deepEqual(parts.counters.internalErrors, { exchange: 1 });
  });

  test('in an observer costs the record', () => {
    const forgotten: number[] = [];
    const parts = assemble({
      observers: [
        {
          process() {
            throw new Error('no');
          },
        },
        { forgetSocket: (cookie) => forgotten.push(cookie) },
      ],
    });
    parts.pipeline.process({ timeUs: 1, pid: 1, processStartNs: 0, reason: 0, comm: '', filename: '' });
    assert.deepEqual(parts.counters.internalErrors, { process: 1 });
    parts.client(5000, { seq: 1, flags: 'S', cookie: 77, direction: 1 });
    parts.client(5000, { seq: 2, flags: 'R', cookie: 77, direction: 0 });
    assert.deepEqual(forgotten, [77], 'an observer that keeps no sockets hides no other');
  });
});

describe('a connection whose start was not seen', () => {
  /** A server at a port above its clients': what the ports say of the roles is wrong. */
  const fromClient = { from: '10.0.0.1', to: '10.0.0.2', srcPort: 40_000, dstPort: 50_000 };
  const fromServer = { from: '10.0.0.2', to: '10.0.0.1', srcPort: 50_000, dstPort: 40_000 };
  const get = (n: number) => `GET /${n} HTTP/1.1\r\nHost: a\r\n\r\n`;
  const ok = 'HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok';

  for (const [name, first] of [
    ['in the middle of a response', fromServer],
    ['in the middle of a request', fromClient],
  ] as const) {
    test(`${name}: the messages say who is the client`, () => {
      const { pipeline, counters, exchanges } = assemble();
      const seq = { [fromClient.srcPort]: 1000, [fromServer.srcPort]: 2000 };
      const send = (ends: typeof fromClient, cookie: number, payload: string): void => {
        const peer = ends === fromClient ? fromServer : fromClient;
        pipeline.packet(
          packetRecord({ ...ends, seq: seq[ends.srcPort]!, ack: seq[peer.srcPort]!, payload, cookie, direction: 1 }),
        );
        seq[ends.srcPort]! += payload.length;
      };
      send(first, first === fromClient ? 7 : 8, 'the rest of something');
      for (let n = 1; n <= 3; n++) {
        send(fromClient, 7, get(n));
        send(fromServer, 8, ok);
      }
      assert.deepEqual(
        exchanges.map(({ target, statusCode, incomplete, connection: { client, server } }) => [
          [target, statusCode, incomplete],
          [client.address, client.port, client.socket],
          [server.address, server.port, server.socket],
        ]),
        // The request behind the rest of another one does not begin where the client begins to speak.
        (first === fromClient ? [2, 3] : [1, 2, 3]).map((n) => [
          [`/${n}`, 200, undefined],
          ['10.0.0.1', 40_000, 7],
          ['10.0.0.2', 50_000, 8],
        ]),
      );
      pipeline.packet(
        packetRecord({ ...fromClient, seq: seq[40_000]!, ack: seq[50_000]!, flags: 'F', cookie: 7, direction: 1 }),
      );
      pipeline.packet(packetRecord({ ...fromServer, seq: seq[50_000]!, ack: seq[40_000]! + 1, flags: 'F' }));
      assert.deepEqual(counters.connections.ended, { fin: 1 });
      assert.equal(counters.connections.tcp, 1);
      assert.deepEqual(counters.connections.unrecognised, {});
    });
  }
});

test('the owner of a socket is remembered when only its connection was given up', () => {
  for (const [how, limits] of [
    ['idle', { ...defaultAllLimits, idleUs: 1_000_000 }],
    ['evicted', { ...defaultAllLimits, connections: 1, lingeringConnections: 1 }],
  ] as const) {
    const forgotten: number[] = [];
    const { client, pipeline, counters } = assemble({
      limits,
      observers: [{ forgetSocket: (cookie) => forgotten.push(cookie) }],
    });
    client(5000, { seq: 2, payload: 'x', cookie: 77, direction: 1 });
    if (how === 'idle') pipeline.tick(9_000_000);
    else client(5001, { seq: 2, payload: 'x', cookie: 78, direction: 1 });
    assert.deepEqual(counters.connections.ended, { [how]: 1 });
    // Its process still has it, and may use it again.
    assert.deepEqual(forgotten, []);
  }
});

describe('secrets in the pipeline', () => {
  const master = (timeUs: number): SecretRecord => ({
    timeUs,
    pid: 1,
    kind: SECRET_TLS12_MASTER,
    library: 0,
    secret: Buffer.alloc(48, 7),
    context: Buffer.alloc(64, 1),
  });

  test('those that nobody asks for are zeroed in time, also when none follows', () => {
    const { pipeline, secrets } = assemble();
    const record = master(1_000_000);
    pipeline.secret(record);
    pipeline.tick(2_000_000);
    assert.equal(secrets.size, 1);
    pipeline.tick(1_000_001 + defaultAllLimits.secretUs);
    assert.equal(secrets.size, 0);
    assert.ok(record.secret.every((byte) => byte === 0));
  });

  test('the rest is zeroed at the end', () => {
    const { pipeline } = assemble();
    const record = master(1_000_000);
    pipeline.secret(record);
    pipeline.finish('shutdown', 2_000_000);
    assert.ok(record.secret.every((byte) => byte === 0));
  });
});

describe('the feed', () => {
  test('has the exchanges that sampling leaves out, with the reason', () => {
    const feed = new Feed({});
    const counters = newCounters();
    const spans = new SpanBuilder({
      mappings: protocolMappings,
      perspective: 'server',
      resources: { resourceOf: () => undefined },
      clock: identityClock,
      counters,
      config: sections(),
      sampling: { ...defaultSamplingOptions, ratio: 0, keepErrors: false },
    });
    const parts = assemble({ feed, spans });
    exchange(parts, 1001);
    const seen: string[] = [];
    const leave = feed.subscribe(({ summary, client, server }) => {
      seen.push(`${summary} ${client.leftOut} ${server.leftOut}`);
    });
    exchange(parts, 1002);
    leave?.();
    exchange(parts, 1003);
    assert.deepEqual(seen, ['GET /1002 perspective unsampled']);
    assert.deepEqual(parts.exchanges, []);
    assert.deepEqual(parts.counters.internalErrors, {});
  });
});
