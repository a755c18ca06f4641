import assert from 'node:assert/strict';
import { existsSync, readFileSync } from 'node:fs';
import { test } from 'node:test';
import { fileURLToPath } from 'node:url';
import { readCaptureFile } from '../../src/capture/file.ts';
import { HEADER, PACKET, type PacketRecord, RECORD_PACKET } from '../../src/capture/records.ts';
import { FlowTable } from '../../src/flow/table.ts';
import { createDetectLayer } from '../../src/protocol/detect.ts';
import type { GrpcExchange } from '../../src/protocol/grpc/exchange.ts';
import type { HttpExchange } from '../../src/protocol/http/exchange.ts';
import type { LayerContext, Protocol } from '../../src/protocol/layer.ts';
import { defaultAllLimits } from '../../src/protocol/registry.ts';
import { SecretStore } from '../../src/secrets/store.ts';
import { type Counters, newCounters } from '../../src/telemetry/counters.ts';
import { createTlsLayer, detectTls } from '../../src/tls/layer.ts';
import { typed } from '../support/protocols/exchanges.ts';
import { newProtocols } from '../support/wire/protocols.ts';
import {
  CAPTURES,
  type CaptureFacts,
  GRPC_CAPTURES,
  type GrpcFacts,
  HTTP2_CAPTURES,
  type Http2Facts,
  readFacts,
  type StreamFacts,
} from './expected.ts';

const facts = readFacts().captures;

interface Replayed {
  /** Those that carry calls, too. */
  exchanges: HttpExchange[];
  calls: GrpcExchange[];
  counters: Counters;
}

/** A capture through every stage up to the exchanges. */
async function replay(name: string): Promise<Replayed> {
  const path = fileURLToPath(new URL(`data/${name}`, import.meta.url));
  const counters = newCounters();
  const exchanges: HttpExchange[] = [];
  const calls: GrpcExchange[] = [];
  const secrets = new SecretStore(defaultAllLimits, counters);
  if (existsSync(`${path}.keylog`)) secrets.addKeyLogText(readFileSync(`${path}.keylog`));
  const protocols = newProtocols();
  const next = (context: LayerContext) => createDetectLayer(context, protocols);
  const tls: Protocol = {
    name: 'tls',
    detect: detectTls,
    create: (context) => createTlsLayer(context, { secrets, next }),
  };
  const table = new FlowTable({
    limits: defaultAllLimits,
    counters,
    open: (connection, control) =>
      createDetectLayer(
        {
          connection,
          limits: defaultAllLimits,
          counters,
          memory: control.memory,
          emit: (emitted) => {
            const exchange = typed(emitted);
            if (exchange.protocol === 'grpc') calls.push(exchange);
            exchanges.push(exchange.protocol === 'grpc' ? exchange.http : (exchange as HttpExchange));
          },
          mute: () => control.mute(),
          wantTicks: (wanted) => control.wantTicks(wanted),
        },
        [tls, ...protocols],
      ),
  });
  let lastUs = 0;
  const walk = (chunk: Buffer, length: number): void => {
    for (const record of packets(chunk, length)) {
      lastUs = record.timeUs;
      table.tick(lastUs);
      table.packet(record);
    }
  };
  await readCaptureFile(path, walk, { onSecrets: (lines) => secrets.addKeyLogText(lines) });
  table.closeAll('shutdown', lastUs);
  return { exchanges, calls, counters };
}

function* packets(bytes: Buffer, length: number): Generator<PacketRecord> {
  for (let at = 0; at < length; at += (bytes.readUInt32LE(at + HEADER.length) + 7) & ~7) {
    assert.equal(bytes.readUInt16LE(at + HEADER.type), RECORD_PACKET);
    const start = at + PACKET.size;
    yield {
      timeUs: Number(bytes.readBigUInt64LE(at + HEADER.timeNs)) / 1000,
      cookie: 0,
      netns: 0,
      ifindex: 0,
      direction: 2,
      packetLength: bytes.readUInt32LE(at + PACKET.packetLength),
      payloadSkip: bytes.readUInt32LE(at + PACKET.payloadSkip),
      bytes,
      start,
      end: start + bytes.readUInt32LE(at + PACKET.captured),
    };
  }
}

/** The exchanges in the form of tshark's facts: by connection, requests and statuses in their order. */
function asFacts(exchanges: readonly HttpExchange[]): CaptureFacts {
  const streams = new Map<number, { firstUs: number; facts: StreamFacts }>();
  for (const exchange of [...exchanges].sort((a, b) => a.streamOffset - b.streamOffset)) {
    const { id } = exchange.connection;
    const stream = streams.get(id) ?? { firstUs: exchange.startUs, facts: { requests: [], statuses: [] } };
    streams.set(id, stream);
    stream.facts.requests.push([exchange.method, exchange.target]);
    if (exchange.statusCode !== 0) stream.facts.statuses.push(exchange.statusCode);
  }
  return { streams: [...streams.values()].sort((a, b) => a.firstUs - b.firstUs).map((stream) => stream.facts) };
}

/** In the order of their requests. */
function asHttp2Facts(exchanges: readonly HttpExchange[]): Http2Facts[] {
  return [...exchanges]
    .sort((a, b) => a.streamOffset - b.streamOffset)
    .map((e) => ({
      method: e.method,
      path: e.target,
      status: e.statusCode,
      requestBytes: e.requestBodyBytes,
      responseBytes: e.responseBodyBytes,
    }));
}

for (const name of CAPTURES) {
  test(`${name}: every request and status that tshark sees`, async () => {
    const { exchanges, counters } = await replay(name);
    assert.deepEqual(asFacts(exchanges), facts[name], JSON.stringify(counters));
    assert.deepEqual(counters.parseErrors, {});
    for (const e of exchanges) {
      if (e.incomplete !== undefined) continue;
      assert.ok(
        e.startUs > 0 && e.startUs <= e.requestEndUs && e.responseStartUs <= e.endUs,
        `${e.method} ${e.target}`,
      );
    }
    if (name.includes('one-lost')) {
      // The segment that was lost held the head of the first response.
      assert.deepEqual(counters.incomplete, { gap: 1 });
      assert.deepEqual([exchanges[0]?.statusCode, exchanges[0]?.incomplete], [0, 'gap']);
    } else assert.deepEqual(counters.incomplete, {});
  });
}

test('a switch of protocols ends the exchange, and its connection is opaque from there', async () => {
  const { exchanges } = await replay('http-upgrade-to-raw-stream.pcap.gz');
  const upgrade = exchanges.find((e) => e.statusCode === 101);
  assert.equal(upgrade?.incomplete, undefined);
  assert.equal(exchanges.filter((e) => e.connection === upgrade?.connection).length, 1);
});

test('interim responses are not exchanges', async () => {
  const { exchanges } = await replay('http-two-interim-responses.pcap.gz');
  assert.equal(exchanges.length, 1);
  assert.equal(exchanges[0]?.statusCode, 200);
  assert.ok((exchanges[0]?.requestBodyBytes ?? 0) > 30_000);
});

for (const name of HTTP2_CAPTURES) {
  test(`${name}: every stream that tshark sees`, async () => {
    const { exchanges, counters } = await replay(name);
    assert.deepEqual(asHttp2Facts(exchanges), readFacts().http2[name], JSON.stringify(counters));
    assert.deepEqual([counters.parseErrors, counters.incomplete], [{}, {}]);
    for (const e of exchanges) {
      assert.equal(e.version, '2');
      assert.ok(e.startUs > 0 && e.startUs <= e.requestEndUs && e.responseStartUs <= e.endUs);
    }
  });
}

for (const name of GRPC_CAPTURES) {
  test(`${name}: every call, and the messages that tshark counts`, async () => {
    const { calls, counters } = await replay(name);
    const seen = calls.map((call): GrpcFacts => {
      const { requestMessages, responseMessages, requestMessageBytes, responseMessageBytes } = call;
      return { requestMessages, responseMessages, requestMessageBytes, responseMessageBytes };
    });
    assert.deepEqual(seen, readFacts().grpc[name]);
    assert.deepEqual(counters.exchanges, { grpc: calls.length });
    for (const call of calls) assert.equal(call.statusCode, 0);
  });
}
