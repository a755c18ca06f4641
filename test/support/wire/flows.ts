import type { PacketRecord, SocketRecord } from '../../../src/capture/records.ts';
import { defaultLimits, type Limits } from '../../../src/config/limits.ts';
import type { Connection, Direction, EndReason, Layer } from '../../../src/flow/connection.ts';
import { type FlowControl, FlowTable } from '../../../src/flow/table.ts';
import { type Counters, newCounters } from '../../../src/telemetry/counters.ts';
import { type PacketOptions, packetRecord } from './packets.ts';

/** A layer that writes down what it gets. */
export class RecordingLayer implements Layer {
  readonly connection: Connection;
  readonly control: FlowControl;
  /** Per direction: the bytes, gaps as NUL bytes up to `gapFill`, else left out. */
  readonly parts: [Buffer[], Buffer[]] = [[], []];
  readonly log: string[] = [];
  /** The time of each entry of `log`. */
  readonly times: number[] = [];
  readonly gaps: [number, number] = [0, 0];
  onData: ((direction: Direction) => void) | undefined = undefined;

  constructor(connection: Connection, control: FlowControl) {
    this.connection = connection;
    this.control = control;
  }

  data(direction: Direction, bytes: Buffer, start: number, end: number, timeUs: number): void {
    this.check();
    this.times.push(timeUs);
    this.parts[direction].push(Buffer.from(bytes.subarray(start, end)));
    this.log.push(`${name(direction)} ${bytes.toString('latin1', start, end)}`);
    this.onData?.(direction);
  }

  gap(direction: Direction, length: number, timeUs: number): void {
    this.check();
    this.times.push(timeUs);
    this.gaps[direction] += length;
    this.log.push(`${name(direction)} gap ${length}`);
  }

  end(direction: Direction, reason: EndReason, timeUs: number): void {
    this.check();
    this.times.push(timeUs);
    this.log.push(`${name(direction)} end ${reason}`);
  }

  close(reason: EndReason, timeUs: number): void {
    this.check();
    this.times.push(timeUs);
    this.log.push(`close ${reason}`);
  }

  tick(timeUs: number): void {
    this.times.push(timeUs);
    this.log.push(`tick ${timeUs}`);
  }

  bytes(direction: Direction): Buffer {
    return Buffer.concat(this.parts[direction]);
  }

  /** Nothing may follow `close`. */
  private check(): void {
    if (this.log.at(-1)?.startsWith('close')) throw new Error('called after close');
  }
}

function name(direction: Direction): string {
  return direction === 0 ? '>' : '<';
}

/** A FlowTable with recording layers. */
export class FlowHarness {
  readonly counters: Counters = newCounters();
  readonly layers: RecordingLayer[] = [];
  readonly ended: Connection[] = [];
  readonly muted: number[] = [];
  readonly table: FlowTable;

  constructor(limits: Partial<Limits> = {}) {
    this.table = new FlowTable({
      limits: { ...defaultLimits, ...limits },
      counters: this.counters,
      open: (connection, control) => {
        const layer = new RecordingLayer(connection, control);
        this.layers.push(layer);
        return layer;
      },
      mute: (cookie) => this.muted.push(cookie),
      onConnectionEnd: (connection) => this.ended.push(connection),
    });
  }

  /** A packet of client 10.0.0.1:40000 to server 10.0.0.2:80. */
  client(options: PacketOptions = {}): ReturnType<FlowTable['packet']> {
    return this.table.packet(packetRecord(options));
  }

  /** The reverse. */
  server(options: PacketOptions = {}): ReturnType<FlowTable['packet']> {
    return this.table.packet(
      packetRecord({ from: '10.0.0.2', to: '10.0.0.1', srcPort: 80, dstPort: 40_000, ...options }),
    );
  }

  /** The three packets of a handshake; client data begins at 101, server data at 501. */
  handshake(): void {
    this.client({ seq: 100, flags: 'S' });
    this.server({ seq: 500, ack: 101, flags: 'S' });
    this.client({ seq: 101, ack: 501 });
  }

  packet(record: PacketRecord): void {
    this.table.packet(record);
  }

  get layer(): RecordingLayer {
    const layer = this.layers[0];
    if (layer === undefined) throw new Error('no layer was opened');
    return layer;
  }
}

export function socketRecord(fields: Partial<SocketRecord>): SocketRecord {
  return {
    timeUs: 0,
    cookie: 0,
    peerCookie: 0,
    cgroupId: 1,
    processStartNs: 0,
    pid: 0,
    netns: 0,
    comm: '',
    ownerKnown: false,
    own: false,
    ...fields,
  };
}
