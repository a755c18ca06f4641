import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import { SECRET_TLS12_MASTER, type SecretRecord } from '../../src/capture/records.ts';
import { defaultLimits } from '../../src/config/limits.ts';
import type { Output } from '../../src/export/output.ts';
import { Pipeline, type PipelineOptions } from '../../src/pipeline.ts';
import type { Protocol } from '../../src/protocol/layer.ts';
import { createProtocols } from '../../src/protocol/registry.ts';
import { SecretStore } from '../../src/secrets/store.ts';
import { defaultHttpSpanOptions, keptHeaders, SpanBuilder } from '../../src/span/builder.ts';
import { identityClock } from '../../src/telemetry/clock.ts';
import { newCounters } from '../../src/telemetry/counters.ts';
import { type PacketOptions, packetRecord } from '../support/packets.ts';

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
  const secrets = new SecretStore(defaultLimits, counters);
  const targets: string[] = [];
  const errors: unknown[] = [];
  const output: Output = {
    exchange: (exchange) => void targets.push(exchange.target),
    ready: () => undefined,
    shutdown: () => Promise.resolve(),
  };
  const kept = keptHeaders(defaultHttpSpanOptions);
  const pipeline = new Pipeline({
    limits: defaultLimits,
    counters,
    secrets,
    protocols: [...createProtocols({ keepHeaders: kept.request }), fragile],
    spans: new SpanBuilder({
      perspective: 'server',
      resources: { resourceOf: () => undefined },
      clock: identityClock,
      counters,
      http: defaultHttpSpanOptions,
    }),
    outputs: [output],
    onInternalError: (error) => errors.push(error),
    ...options,
  });
  const client = (srcPort: number, packet: PacketOptions): void =>
    pipeline.packet(packetRecord({ srcPort, ...packet }));
  const server = (dstPort: number, packet: PacketOptions): void =>
    pipeline.packet(packetRecord({ from: '10.0.0.2', to: '10.0.0.1', srcPort: 80, dstPort, ...packet }));
  return { pipeline, counters, secrets, targets, errors, client, server };
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
      const { client, pipeline, counters, targets } = parts;
      client(5000, { seq: 1, flags: 'S' });
      client(5000, { seq: 2, payload: `die ${where}` });
      exchange(parts, 5001);
      const next = 2 + 4 + where.length;
      client(5000, { seq: next, payload: 'x'.repeat(10), snapLength: 45 }); // five bytes are a gap
      client(5000, { seq: next + 10, flags: 'F' });
      client(5000, { seq: next + 11, flags: 'R' });
      exchange(parts, 5002);
      pipeline.finish('shutdown', 2_000_000);
      assert.deepEqual(targets, ['/5001', '/5002']);
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
      ready: () => undefined,
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
    pipeline.tick(1_000_001 + defaultLimits.secretUs);
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
