/**
 * Captures with packets taken out of them: what is said to be whole is what it is in the whole capture. Ring buffers overflow for a time, so that what
 * is lost is often lost of both directions: a response must not be taken for that to another request.
 */

import assert from 'node:assert/strict';
import { existsSync, readFileSync } from 'node:fs';
import { test } from 'node:test';
import { fileURLToPath } from 'node:url';
import { readCaptureFile } from '../../src/capture/file.ts';
import type { PacketRecord } from '../../src/capture/records.ts';
import { Views } from '../../src/export/views.ts';
import { Pipeline } from '../../src/pipeline.ts';
import { defaultAllLimits, protocolViewers } from '../../src/protocol/registry.ts';
import { SecretStore } from '../../src/secrets/store.ts';
import type { SpanBuilder } from '../../src/span/builder.ts';
import { identityClock } from '../../src/telemetry/clock.ts';
import { newCounters } from '../../src/telemetry/counters.ts';
import { type AnyExchange, typed } from '../support/protocols/exchanges.ts';
import { packetsOf } from '../support/wire/captures.ts';
import { newProtocols, sections } from '../support/wire/protocols.ts';

const RUNS = 300;
/** Of one run: a capture's packets from some place on. */
const MOST_PACKETS = 1500;

/** What was read of one exchange. */
interface Seen {
  /** Its connection, when it began and what was asked. */
  readonly name: string;
  /** What came of it. */
  readonly outcome: string;
  readonly whole: boolean;
}

function describe(exchange: AnyExchange): Seen | undefined {
  const { connection } = exchange;
  const place = `${connection.client.address}:${connection.client.port} ${connection.server.port}`;
  switch (exchange.protocol) {
    case 'http': {
      const { startUs, method, target, statusCode, requestBodyBytes, responseBodyBytes, responseHeaders } = exchange;
      const type = responseHeaders.get('etag') ?? responseHeaders.get('last-modified') ?? '';
      return {
        name: `${place} ${startUs} ${method} ${target}`,
        outcome: `${statusCode} ${requestBodyBytes} ${responseBodyBytes} ${type}`,
        whole: exchange.incomplete === undefined && startUs !== 0,
      };
    }
    case 'postgresql':
    case 'mysql': {
      const { startUs, statement, batchIndex, failed, statusCode, returnedRows, affectedRows } = exchange;
      return {
        name: `${place} ${startUs} ${batchIndex} ${statement?.text ?? ''}`,
        // Of COPY that lost the message which tells its direction, one of the two is not known.
        outcome: failed ? `failed ${statusCode}` : `rows ${Math.max(returnedRows, affectedRows)}`,
        // A statement that was not seen is named by the tag of its completion.
        whole: exchange.incomplete === undefined && startUs !== 0 && (statement?.text ?? '') !== '',
      };
    }
    default:
      return undefined;
  }
}

/** Reads packets up to exchanges, through all stages. */
function read(packets: readonly PacketRecord[], keyLogs: readonly Buffer[]): Seen[] {
  const counters = newCounters();
  const secrets = new SecretStore(defaultAllLimits, counters);
  for (const text of keyLogs) secrets.addKeyLogText(text);
  const seen: Seen[] = [];
  const spans: Pick<SpanBuilder, 'build' | 'isUnwatched'> = {
    build(exchange) {
      const one = describe(typed(exchange));
      if (one !== undefined) seen.push(one);
      return [];
    },
    isUnwatched: () => false,
  };
  const pipeline = new Pipeline({
    limits: defaultAllLimits,
    counters,
    secrets,
    protocols: newProtocols({
      http: { captureResponseHeaders: ['etag', 'last-modified'] },
      sql: { maxTextBytes: 1 << 20, rawText: true },
    }),
    spans: spans as SpanBuilder,
    outputs: [],
    views: new Views({
      viewers: protocolViewers,
      clock: identityClock,
      resources: { resourceOf: () => undefined },
      config: sections(),
    }),
  });
  let lastUs = 0;
  for (const packet of packets) {
    lastUs = packet.timeUs;
    pipeline.tick(lastUs);
    pipeline.packet(packet);
  }
  pipeline.finish('shutdown', lastUs);
  assert.deepEqual(counters.internalErrors, {});
  return seen;
}

/** The same numbers at every run: xorshift32. */
function numbers(seed: number): (below: number) => number {
  let state = seed;
  return (below) => {
    state ^= state << 13;
    state ^= state >>> 17;
    state ^= state << 5;
    return (state >>> 0) % below;
  };
}

/** Takes out single packets, or whole stretches of them, at a rate that differs from run to run. */
function withLosses(packets: readonly PacketRecord[], next: (below: number) => number): PacketRecord[] {
  const oneOf = [6, 15, 30, 150, 600][next(5)]!;
  const longest = [1, 5, 30][next(3)]!;
  let left = 0;
  return packets.filter(() => {
    if (left === 0 && next(oneOf) === 0) left = 1 + next(longest);
    if (left === 0) return true;
    left--;
    return false;
  });
}

const data = (name: string) => fileURLToPath(new URL(`data/${name}`, import.meta.url));

for (const name of [
  'http-1000-requests-one-lost-segment.pcap.gz',
  'http-upgrade-to-raw-stream.pcap.gz',
  'http-headers-in-two-segments.pcapng.gz',
  'tls12-secrets-in-file.pcapng.gz',
  'tls12-key-log.pcap.gz',
  'tls13-key-log.pcap.gz',
  'mysql-text-queries.pcap.gz',
  'postgresql-failed-transaction.pcap.gz',
  'postgresql18-drivers.pcap.gz',
]) {
  test(`${name} with losses: nothing is made up`, async (t) => {
    const packets: PacketRecord[] = [];
    const keyLogs: Buffer[] = existsSync(data(`${name}.keylog`)) ? [readFileSync(data(`${name}.keylog`))] : [];
    await readCaptureFile(data(name), (chunk, length) => packets.push(...packetsOf(chunk, length)), {
      onSecrets: (lines) => keyLogs.push(Buffer.from(lines)),
    });
    const next = numbers(1);
    let compared = 0;
    const wrong: string[] = [];
    for (let run = 0; run < RUNS; run++) {
      const from = next(Math.max(1, packets.length - MOST_PACKETS));
      const part = packets.slice(from, from + MOST_PACKETS);
      const truth = new Map<string, string[]>();
      for (const { name: asked, outcome } of read(part, keyLogs)) {
        truth.set(asked, [...(truth.get(asked) ?? []), outcome]);
      }
      for (const { name: asked, outcome, whole } of read(withLosses(part, next), keyLogs)) {
        if (!whole) continue;
        compared++;
        // Rows that are not known are not said.
        if (outcome === 'rows -1' || truth.get(asked)?.includes(outcome)) continue;
        wrong.push(`run ${run}: ${asked} -> ${outcome}, not ${truth.get(asked)?.join(' or ')}`);
      }
    }
    assert.deepEqual(wrong.slice(0, 10), [], `${wrong.length} of ${compared}`);
    assert.ok(compared > RUNS, `only ${compared} were compared`);
    t.diagnostic(`${compared} exchanges`);
  });
}
