/** Made-up HTTP traffic as a capture file, packet by packet: `wirespan replay --perspective both` makes two spans of each exchange. */
import { ipPacket, type PacketOptions } from './packets.ts';

export interface TrafficOptions {
  exchanges: number;
  /** One connection after the other, each with so many exchanges. */
  perConnection?: number;
  /** Of capture time between the starts of two exchanges. */
  gapUs?: number;
  /** Sets the ids of the connections apart from those of other captures. */
  seed?: number;
}

const START_US = 1_790_000_000_000_000;
/** LINKTYPE_RAW: packets begin with their IP header. */
const LINKTYPE_RAW = 101;

/** The file's header. */
export function captureHeader(): Buffer {
  const header = Buffer.alloc(24);
  header.writeUInt32LE(0xa1b2c3d4, 0);
  header.writeUInt16LE(2, 4);
  header.writeUInt16LE(4, 6);
  header.writeUInt32LE(262_144, 16);
  header.writeUInt32LE(LINKTYPE_RAW, 20);
  return header;
}

/** The records of one exchange after the other; exchange i asks for `/orders/i`. */
export function* exchangeRecords(options: TrafficOptions): Generator<Buffer> {
  const { exchanges, perConnection = 50, gapUs = 1000, seed = 1 } = options;
  let client = 0;
  let server = 0;
  for (let i = 0; i < exchanges; i++) {
    const connection = Math.floor(i / perConnection);
    const ends = {
      from: `10.1.${connection >>> 8}.${connection & 255}`,
      to: '10.2.0.1',
      srcPort: 10_000 + seed,
      dstPort: 80,
    };
    const back = { from: ends.to, to: ends.from, srcPort: ends.dstPort, dstPort: ends.srcPort };
    const startUs = START_US + i * gapUs;
    const records: Buffer[] = [];
    const add = (afterUs: number, packet: PacketOptions): void => void records.push(record(startUs + afterUs, packet));
    if (i % perConnection === 0) {
      client = (seed * 1_000_003 + connection * 7919) >>> 0;
      server = (seed * 2_000_003 + connection * 104_729) >>> 0;
      add(0, { ...ends, seq: client++, flags: 'S' });
      add(10, { ...back, seq: server++, ack: client, flags: 'S' });
      add(20, { ...ends, seq: client, ack: server });
    }
    const request = Buffer.from(`GET /orders/${i} HTTP/1.1\r\nHost: shop\r\n\r\n`);
    add(30, { ...ends, seq: client, ack: server, flags: 'P', payload: request });
    client = (client + request.length) >>> 0;
    const response = Buffer.from('HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok');
    add(430, { ...back, seq: server, ack: client, flags: 'P', payload: response });
    server = (server + response.length) >>> 0;
    if ((i + 1) % perConnection === 0 || i + 1 === exchanges) {
      add(440, { ...ends, seq: client, ack: server, flags: 'F' });
      add(450, { ...back, seq: server, ack: client + 1, flags: 'F' });
      add(460, { ...ends, seq: client + 1, ack: server + 1 });
    }
    yield Buffer.concat(records);
  }
}

export function capture(options: TrafficOptions): Buffer {
  return Buffer.concat([captureHeader(), ...exchangeRecords(options)]);
}

function record(timeUs: number, packet: PacketOptions): Buffer {
  const bytes = ipPacket(packet);
  const header = Buffer.alloc(16);
  header.writeUInt32LE(Math.floor(timeUs / 1e6), 0);
  header.writeUInt32LE(timeUs % 1e6, 4);
  header.writeUInt32LE(bytes.length, 8);
  header.writeUInt32LE(bytes.length, 12);
  return Buffer.concat([header, bytes]);
}
