import assert from 'node:assert/strict';
import { existsSync, readFileSync } from 'node:fs';
import { test } from 'node:test';
import { fileURLToPath } from 'node:url';
import { readCaptureFile } from '../../src/capture/file.ts';
import { HEADER, PACKET, type PacketRecord, RECORD_PACKET } from '../../src/capture/records.ts';
import type { SqlExchange } from '../../src/exchange/sql.ts';
import type { Layer } from '../../src/flow/connection.ts';
import { FlowTable } from '../../src/flow/table.ts';
import { createDetectLayer } from '../../src/protocol/detect.ts';
import type { LayerContext, Protocol } from '../../src/protocol/layer.ts';
import { defaultAllLimits } from '../../src/protocol/registry.ts';
import { SecretStore } from '../../src/secrets/store.ts';
import { type Counters, newCounters } from '../../src/telemetry/counters.ts';
import { createTlsLayer, detectTls } from '../../src/tls/layer.ts';
import { newProtocols } from '../support/wire/protocols.ts';
import { type AnswerFacts, POSTGRES_CAPTURES, readPostgresFacts } from './postgres-expected.ts';

const facts = readPostgresFacts().captures;

interface Replayed {
  exchanges: SqlExchange[];
  counters: Counters;
  packets: number;
}

/**
 * A capture through every stage up to the exchanges, its texts as they are.
 *
 * @param wanted which packets, by their number in the file from 0, are seen
 */
async function replay(name: string, wanted: (packet: number) => boolean = () => true): Promise<Replayed> {
  const path = fileURLToPath(new URL(`data/${name}`, import.meta.url));
  const counters = newCounters();
  const exchanges: SqlExchange[] = [];
  const secrets = new SecretStore(defaultAllLimits, counters);
  if (existsSync(`${path}.keylog`)) secrets.addKeyLogText(readFileSync(`${path}.keylog`));
  const protocols = newProtocols({ sql: { maxTextBytes: 1 << 20, rawText: true } });
  const within = (outer: LayerContext, next: (context: LayerContext) => Layer): Layer =>
    createTlsLayer(outer, { secrets, next });
  const create = (context: LayerContext): Layer => within(context, (inner) => createDetectLayer(inner, protocols));
  const tls: Protocol = { name: 'tls', detect: detectTls, create };
  const table = new FlowTable({
    limits: defaultAllLimits,
    counters,
    open: (connection, control) => {
      const outer: LayerContext = {
        connection,
        limits: defaultAllLimits,
        counters,
        memory: control.memory,
        emit: (exchange) => exchanges.push(exchange as SqlExchange),
        mute: () => control.mute(),
        wantTicks: (on) => control.wantTicks(on),
        swapRoles: () => control.swapRoles(),
        startTls: (next) => within(outer, next),
      };
      return createDetectLayer(outer, [tls, ...protocols]);
    },
  });
  let packets = 0;
  let lastUs = 0;
  const walk = (chunk: Buffer, length: number): void => {
    for (const record of records(chunk, length)) {
      if (!wanted(packets++)) continue;
      lastUs = record.timeUs;
      table.tick(lastUs);
      table.packet(record);
    }
  };
  await readCaptureFile(path, walk, { onSecrets: (lines) => secrets.addKeyLogText(lines) });
  table.closeAll('shutdown', lastUs);
  return { exchanges, counters, packets };
}

function* records(bytes: Buffer, length: number): Generator<PacketRecord> {
  for (let at = 0; at < length; at += (bytes.readUInt32LE(at + HEADER.length) + 7) & ~7) {
    assert.equal(bytes.readUInt16LE(at + HEADER.type), RECORD_PACKET);
    const start = at + PACKET.size;
    yield {
      timeUs: Number(bytes.readBigUInt64LE(at + HEADER.timeNs)) / 1000,
      ...{ cookie: 0, netns: 0, ifindex: 0, direction: 2 },
      packetLength: bytes.readUInt32LE(at + PACKET.packetLength),
      payloadSkip: bytes.readUInt32LE(at + PACKET.payloadSkip),
      ...{ bytes, start, end: start + bytes.readUInt32LE(at + PACKET.captured) },
    };
  }
}

/** By connection, in the order of their first statement. */
function byConnection(exchanges: readonly SqlExchange[]): SqlExchange[][] {
  const found = new Map<number, SqlExchange[]>();
  for (const exchange of exchanges) {
    const { id } = exchange.connection;
    found.set(id, [...(found.get(id) ?? []), exchange]);
  }
  return [...found.entries()].sort(([a], [b]) => a - b).map(([, all]) => all);
}

/** What an exchange must say, by the words of the protocol's documentation on CommandComplete. */
function outcomeOf({ tag, code, rows }: AnswerFacts): string {
  if (code !== '') return `error ${code}`;
  const words = tag.split(' ');
  const number = Number(words.at(-1));
  switch (words[0]) {
    case 'SELECT':
    case 'FETCH':
      return `returned ${rows}`;
    case 'INSERT':
    case 'UPDATE':
    case 'DELETE':
    case 'COPY':
      return `affected ${number}`;
    default:
      return 'ok';
  }
}

function outcome(e: SqlExchange): string {
  if (e.failed) return `error ${e.statusCode}`;
  if (e.affectedRows >= 0) return `affected ${e.affectedRows}`;
  return e.returnedRows >= 0 ? `returned ${e.returnedRows}` : 'ok';
}

for (const name of POSTGRES_CAPTURES) {
  test(`${name}: every statement that tshark sees, with its outcome`, async () => {
    const { exchanges, counters } = await replay(name);
    const expected = facts[name]!.filter((stream) => stream.answers.length > 0);
    assert.deepEqual(
      byConnection(exchanges).map((all) => all.map(outcome)),
      expected.map((stream) => stream.answers.map(outcomeOf)),
      JSON.stringify(counters),
    );
    assert.deepEqual(counters.parseErrors, {});
    for (const e of exchanges) {
      assert.equal(e.incomplete, undefined);
      assert.ok(e.startUs > 0 && e.startUs <= e.responseStartUs && e.responseStartUs <= e.endUs, e.statement?.text);
      assert.ok(e.firstRowUs === 0 || (e.firstRowUs >= e.responseStartUs && e.firstRowUs <= e.endUs));
      const { texts } = expected[byConnection(exchanges).findIndex((all) => all.includes(e))]!;
      assert.ok(
        texts.some((text) => text.includes(e.statement?.text || '?')),
        e.statement?.text,
      );
    }
  });
}

test('where they ran: inside TLS, in a transaction that failed, on another search path', async () => {
  const inTls = await replay('postgresql-tls12.pcap.gz');
  assert.ok(inTls.exchanges.every((e) => e.connection.tls?.version === '1.2' && e.namespace === 'testdb'));
  const { exchanges } = await replay('postgresql-failed-transaction.pcap.gz');
  assert.equal(exchanges.filter((e) => e.transaction === 'failed').length, 4);
  const drivers = await replay('postgresql18-drivers.pcap.gz');
  const elsewhere = drivers.exchanges.filter((e) => e.namespace !== 'postgres|public').map((e) => e.namespace);
  assert.ok(elsewhere.length >= 2 && elsewhere.every((namespace) => namespace === 'postgres|pg_catalog'));
  assert.deepEqual(drivers.counters.incomplete, { not_run: 3 });
});

test('a packet that is lost costs the statements in it, whichever it is', async () => {
  const name = 'postgresql-failed-transaction.pcap.gz';
  const whole = await replay(name);
  const outcomes = whole.exchanges.map((e) => `${e.statement?.text} ${outcome(e)}`);
  for (let lost = 0; lost < whole.packets; lost++) {
    const { exchanges, counters } = await replay(name, (packet) => packet !== lost);
    const left = exchanges.filter((e) => e.incomplete === undefined).map((e) => `${e.statement?.text} ${outcome(e)}`);
    assert.ok(left.length >= outcomes.length - 1, `packet ${lost}: ${left.length} ${JSON.stringify(counters)}`);
    assert.deepEqual(
      left.filter((line) => !outcomes.includes(line)),
      [],
      `packet ${lost}`,
    );
    assert.deepEqual(counters.parseErrors, {}, `packet ${lost}`);
  }
});

test('a capture that begins anywhere is joined at the next statement', async () => {
  const name = 'postgresql-failed-transaction.pcap.gz';
  const whole = await replay(name);
  for (let first = 0; first < whole.packets; first++) {
    const { exchanges } = await replay(name, (packet) => packet >= first);
    const seen = whole.exchanges.filter((e) => exchanges.some((other) => other.startUs === e.startUs));
    assert.equal(seen.length, exchanges.length, `from packet ${first}`);
    const last = whole.exchanges.slice(whole.exchanges.length - exchanges.length);
    assert.deepEqual(exchanges.map(outcome), last.map(outcome), `from packet ${first}`);
  }
});
