/**
 * `npm run wire -- FILE [--keylog FILE] [--connection N]`: prints a wire document of each connection in a capture file, or of the Nth. Bytes inside
 * TLS come out as plain text when their secrets are in the file or in the key log. See docs/internals/testing.md.
 */
import { readFileSync } from 'node:fs';
import { parseArgs } from 'node:util';
import type { Connection, Direction, EndReason, Layer } from '../../../src/flow/connection.ts';
import { type FlowControl, FlowTable } from '../../../src/flow/table.ts';
import { createDetectLayer } from '../../../src/protocol/detect.ts';
import type { LayerContext, Protocol } from '../../../src/protocol/layer.ts';
import { createProxyLayer } from '../../../src/protocol/proxy/layer.ts';
import { defaultAllLimits } from '../../../src/protocol/registry.ts';
import { SecretStore } from '../../../src/secrets/store.ts';
import { newCounters } from '../../../src/telemetry/counters.ts';
import { createTlsLayer, detectTls } from '../../../src/tls/layer.ts';
import { readAll } from '../wire/captures.ts';
import type { Step } from './cases.ts';
import { formatCase, protocols } from './documents.ts';

const limits = { ...defaultAllLimits, secrets: 1_000_000 };
const counters = newCounters();
const secrets = new SecretStore(limits, counters);

/** The steps of one connection; those outside of TLS until it begins, then those inside. */
class Recorder {
  readonly connection: Connection;
  readonly steps: Step[] = [];
  /** The layer whose bytes are kept. */
  tap: Tap | undefined;

  constructor(connection: Connection) {
    this.connection = connection;
  }
}

/** Passes everything on, and keeps a copy of what is passed while it is the recorder's tap. */
class Tap implements Layer {
  inner: Layer;
  readonly #recorder: Recorder;

  constructor(recorder: Recorder, context: LayerContext, candidates: readonly Protocol[]) {
    this.#recorder = recorder;
    recorder.tap = this;
    const inside: LayerContext = {
      ...context,
      replaceLayer: (layer) => {
        this.inner = layer;
      },
    };
    this.inner = createProxyLayer(inside, createDetectLayer(inside, candidates));
  }

  data(direction: Direction, bytes: Buffer, start: number, end: number, timeUs: number): void {
    this.#add({ kind: 'data', direction, bytes: Buffer.from(bytes.subarray(start, end)), timeUs });
    this.inner.data(direction, bytes, start, end, timeUs);
  }

  gap(direction: Direction, length: number, timeUs: number): void {
    this.#add({ kind: 'gap', direction, length, timeUs });
    this.inner.gap(direction, length, timeUs);
  }

  end(direction: Direction, reason: EndReason, timeUs: number): void {
    this.#add({ kind: 'end', direction, reason, timeUs });
    this.inner.end(direction, reason, timeUs);
  }

  close(reason: EndReason, timeUs: number): void {
    this.#add({ kind: 'close', reason, timeUs });
    this.inner.close(reason, timeUs);
  }

  tick(timeUs: number): void {
    this.inner.tick?.(timeUs);
  }

  #add(step: Step): void {
    const { steps, tap } = this.#recorder;
    // Times are numbers of steps: a document is read by people.
    if (tap === this) steps.push({ ...step, timeUs: steps.length + 1 });
  }
}

/** The layer that is inside TLS after a request within the protocol: its bytes follow those before. */
class InnerTap implements Layer {
  readonly #inner: Layer;
  readonly #steps: Step[];

  constructor(inner: Layer, steps: Step[]) {
    this.#inner = inner;
    this.#steps = steps;
  }

  data(direction: Direction, bytes: Buffer, start: number, end: number, timeUs: number): void {
    const copy = Buffer.from(bytes.subarray(start, end));
    this.#steps.push({ kind: 'data', direction, bytes: copy, timeUs: this.#steps.length + 1 });
    this.#inner.data(direction, bytes, start, end, timeUs);
  }

  gap(direction: Direction, length: number, timeUs: number): void {
    this.#steps.push({ kind: 'gap', direction, length, timeUs: this.#steps.length + 1 });
    this.#inner.gap(direction, length, timeUs);
  }

  end(direction: Direction, reason: EndReason, timeUs: number): void {
    this.#inner.end(direction, reason, timeUs);
  }

  close(reason: EndReason, timeUs: number): void {
    this.#inner.close(reason, timeUs);
  }

  tick(timeUs: number): void {
    this.#inner.tick?.(timeUs);
  }
}

function open(recorder: Recorder, control: FlowControl): Layer {
  const context: LayerContext = {
    connection: recorder.connection,
    limits,
    counters,
    memory: control.memory,
    emit: () => undefined,
    mute: () => undefined,
    wantTicks: (wanted) => control.wantTicks(wanted),
    swapRoles: () => control.swapRoles(),
    startTls: (next) => {
      recorder.tap = undefined;
      return createTlsLayer(context, { secrets, next: (inner) => new InnerTap(next(inner), recorder.steps) });
    },
  };
  const tls: Protocol = {
    name: 'tls',
    detect: detectTls,
    create: (outer) => {
      recorder.tap = undefined;
      recorder.steps.length = 0;
      return createTlsLayer(outer, { secrets, next: (inner) => new Tap(recorder, inner, protocols) });
    },
  };
  return new Tap(recorder, context, [tls, ...protocols]);
}

async function main(): Promise<number> {
  const { values, positionals } = parseArgs({
    allowPositionals: true,
    options: { keylog: { type: 'string' }, connection: { type: 'string' } },
  });
  const [file, ...more] = positionals;
  if (file === undefined || more.length > 0) {
    process.stderr.write('usage: npm run wire -- FILE [--keylog FILE] [--connection N]\n');
    return 2;
  }
  const { packets, secrets: inFile, error } = await readAll(file);
  if (error !== undefined) {
    process.stderr.write(`cannot read ${error.message}\n`);
    return 1;
  }
  for (const { text } of inFile) secrets.addKeyLogText(Buffer.from(text));
  if (values.keylog !== undefined) secrets.addKeyLogText(readFileSync(values.keylog));
  const recorders: Recorder[] = [];
  const table = new FlowTable({
    limits,
    counters,
    open: (connection, control) => {
      const recorder = new Recorder(connection);
      recorders.push(recorder);
      return open(recorder, control);
    },
    mute: () => undefined,
    onConnectionEnd: () => undefined,
  });
  for (const packet of packets) table.packet(packet);
  table.closeAll('shutdown', packets.at(-1)?.timeUs ?? 0);
  const wanted = recorders.filter((_, i) => values.connection === undefined || Number(values.connection) === i + 1);
  if (wanted.length === 0) process.stderr.write(`the file has ${recorders.length} connections\n`);
  for (const { connection, steps } of wanted) {
    const { client, server, startSeen } = connection;
    const name = `${client.address}:${client.port} to ${server.address}:${server.port}`;
    process.stdout.write(`${formatCase({ name, flags: new Set(startSeen ? [] : ['joined']), steps })}\n`);
  }
  return 0;
}

process.exitCode = await main();
