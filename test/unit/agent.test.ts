/** The agent's composition with a source that is no kernel: what a new kind of source has to bring, and what comes of what it can. */
import assert from 'node:assert/strict';
import { mkdtempSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { type TestContext, test } from 'node:test';
import { runAgent } from '../../src/agent.ts';
import { FileCapture } from '../../src/capture/file.ts';
import { HEADER, PACKET, RECORD_PACKET, type SocketRecord } from '../../src/capture/records.ts';
import type { CaptureCapabilities, CaptureSource, OnChunk } from '../../src/capture/source.ts';
import type { AgentOptions } from '../../src/cli/options.ts';
import { parseConfig } from '../../src/config/load.ts';
import type { ReasonCounts } from '../../src/telemetry/counters.ts';
import { freePort } from '../support/programs/net.ts';
import { socketRecord } from '../support/wire/flows.ts';
import { ipPacket, type PacketOptions } from '../support/wire/packets.ts';
import { capture } from '../support/wire/traffic.ts';

const CLIENT = { from: '10.0.0.1', to: '10.0.0.2', srcPort: 40_000, dstPort: 8080, cookie: 11 };
const SERVER = { from: '10.0.0.2', to: '10.0.0.1', srcPort: 8080, dstPort: 40_000, cookie: 22 };
const REQUEST = 'GET /orders HTTP/1.1\r\nHost: shop\r\n\r\n';
const RESPONSE = 'HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok';

/** An HTTP exchange, then bytes of no protocol on another connection. */
const PACKETS: readonly PacketOptions[] = [
  { ...CLIENT, seq: 0, flags: 'S' },
  { ...SERVER, seq: 0, ack: 1, flags: 'S' },
  { ...CLIENT, seq: 1, ack: 1, payload: REQUEST },
  { ...SERVER, seq: 1, ack: 1 + REQUEST.length, payload: RESPONSE },
  { ...CLIENT, srcPort: 40_001, cookie: 33, seq: 0, flags: 'S' },
  { ...SERVER, dstPort: 40_001, cookie: 44, seq: 0, ack: 1, flags: 'S' },
  { ...CLIENT, srcPort: 40_001, cookie: 33, seq: 1, ack: 1, payload: '\x00\xff'.repeat(3000) },
  { ...SERVER, dstPort: 40_001, cookie: 44, seq: 1, ack: 6001, payload: '\xff\x00'.repeat(3000) },
];

/** Records as records.ts describes them, one after the other. */
function chunkOf(packets: readonly PacketOptions[]): Buffer {
  const records = packets.map((options, index) => {
    const packet = ipPacket(options);
    const record = Buffer.alloc((PACKET.size + packet.length + 7) & ~7);
    record.writeUInt32LE(record.length, HEADER.length);
    record.writeUInt16LE(RECORD_PACKET, HEADER.type);
    record.writeBigUInt64LE(BigInt(1_700_000_000_000_000 + index * 1000) * 1000n, HEADER.timeNs);
    record.writeBigUInt64LE(BigInt(options.cookie ?? 0), PACKET.cookie);
    record.writeUInt32LE(packet.length, PACKET.packetLength);
    record.writeUInt32LE(packet.length, PACKET.captured);
    packet.copy(record, PACKET.size);
    return record;
  });
  return Buffer.concat(records);
}

const NOTHING: CaptureCapabilities = { sockets: false, processes: false, mute: false, ignore: false };
const EVERYTHING: CaptureCapabilities = { sockets: true, processes: true, mute: true, ignore: true };

/** Delivers its packets at once, and writes down what is asked of it. */
class ToySource implements CaptureSource {
  readonly capabilities: CaptureCapabilities;
  readonly clock = { unixUs: (timeUs: number) => timeUs, nowUs: () => 1_700_000_000_100_000 };
  readonly secretRingFd = undefined;
  readonly asked: string[] = [];
  readonly #end = Promise.withResolvers<void>();
  readonly #failure: Error | undefined;

  constructor(capabilities: CaptureCapabilities, failure?: Error) {
    this.capabilities = capabilities;
    this.#failure = failure;
  }

  get finished(): Promise<void> {
    return this.#end.promise;
  }

  start(onChunk: OnChunk): void {
    this.asked.push('start');
    setImmediate(() => {
      const chunk = chunkOf(PACKETS);
      onChunk(chunk, chunk.length);
      if (this.#failure === undefined) this.#end.resolve();
      else this.#end.reject(this.#failure);
    });
  }

  scanSockets(): SocketRecord[] {
    this.asked.push('scanSockets');
    return [socketRecord({ cookie: 11, pid: process.pid, comm: 'toy-client', ownerKnown: true })];
  }

  mute(cookie: number): void {
    this.asked.push(`mute ${cookie}`);
  }

  ignoreListener(_address: string, port: number): void {
    this.asked.push(`ignoreListener ${port}`);
  }

  ignoreCgroup(): void {}

  lost(): ReasonCounts {
    return { toy_full: 3 };
  }

  rings(): undefined {
    return undefined;
  }

  async stop(): Promise<void> {
    this.asked.push('stop');
  }
}

interface Outcome {
  readonly code: number;
  readonly stats: { exchanges: { http: number }; packets: { captured: number; lostReasons: Record<string, number> } };
  /** Names of the spans. */
  readonly spans: string[];
}

/** Runs the agent until the source has no more. */
async function run(t: TestContext, source: CaptureSource, more = ''): Promise<Outcome> {
  const folder = mkdtempSync(join(tmpdir(), 'wirespan-agent-'));
  t.after(() => rmSync(folder, { recursive: true, force: true }));
  const spansFile = join(folder, 'spans.jsonl');
  const statsTarget = join(folder, 'stats.json');
  const options: AgentOptions = {
    config: parseConfig(`log: { level: error }\n${more}`, 'test', { above: { outputs: [`otlp-json=${spansFile}`] } }),
    keylogFile: undefined,
    statsTarget,
    pcapngFile: undefined,
    perspective: 'both',
  };
  const code = await runAgent(options, () => source);
  const lines = readFileSync(spansFile, 'utf8').split('\n').filter(Boolean);
  const spans = lines.flatMap((line) =>
    JSON.parse(line).resourceSpans.flatMap((resource: { scopeSpans: { spans: { name: string }[] }[] }) =>
      resource.scopeSpans.flatMap(({ spans }) => spans.map(({ name }) => name)),
    ),
  );
  return { code, stats: JSON.parse(readFileSync(statsTarget, 'utf8')), spans };
}

test('a source that has packets only is asked for nothing else, and the agent ends with it', async (t) => {
  const source = new ToySource(NOTHING);
  const { code, stats, spans } = await run(t, source);
  assert.equal(code, 0);
  assert.equal(stats.exchanges.http, 1);
  assert.equal(stats.packets.captured, PACKETS.length);
  assert.deepEqual(stats.packets.lostReasons, { toy_full: 3 });
  assert.deepEqual(spans, ['GET', 'GET']);
  assert.deepEqual(source.asked, ['start', 'stop']);
});

test('a source that can do more is asked for it', async (t) => {
  const source = new ToySource(EVERYTHING);
  const { code, spans } = await run(t, source, `telemetry: { listen: "127.0.0.1:${await freePort()}" }`);
  assert.equal(code, 0);
  assert.deepEqual(spans, ['GET', 'GET']);
  assert.ok(source.asked.includes('scanSockets'));
  const muted = source.asked.filter((asked) => asked.startsWith('mute'));
  assert.ok(muted.length > 0 && muted.every((asked) => /^mute (33|44)$/.test(asked)), muted.join());
  assert.ok(source.asked.some((asked) => asked.startsWith('ignoreListener ')));
});

test('a source that fails ends the agent with an error, after all that it had delivered', async (t) => {
  const { code, spans } = await run(t, new ToySource(NOTHING, new Error('the toy is broken')));
  assert.equal(code, 1);
  assert.deepEqual(spans, ['GET', 'GET']);
});

test('a capture file is a source of the agent, too', async (t) => {
  async function* bytes(): AsyncIterable<Buffer> {
    yield capture({ exchanges: 12, perConnection: 4 });
  }
  const ignored: ReasonCounts = {};
  const source = new FileCapture(bytes(), { onSecrets: () => {}, ignored });
  const { code, stats } = await run(t, source);
  assert.equal(code, 0);
  assert.equal(stats.exchanges.http, 12);
  assert.deepEqual(ignored, {});
  assert.ok(source.clock.nowUs() > 0);
});

test('a capture file that is stopped is read no further, and is no damaged one', async () => {
  const file = capture({ exchanges: 1 });
  const asked = Promise.withResolvers<void>();
  const more = Promise.withResolvers<void>();
  async function* bytes(): AsyncIterable<Buffer> {
    yield file.subarray(0, file.length - 10);
    asked.resolve();
    await more.promise;
    yield file.subarray(file.length - 10);
  }
  const source = new FileCapture(bytes(), { onSecrets: () => {} });
  source.start(() => {});
  assert.throws(() => source.start(() => {}), /being read already/);
  await asked.promise;
  const stopped = source.stop();
  more.resolve();
  await stopped;
  assert.equal(await source.finished, undefined);

  const never = new FileCapture('/nonexistent', { onSecrets: () => {} });
  await never.stop();
  assert.equal(await never.finished, undefined);
});
