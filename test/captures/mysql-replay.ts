import assert from 'node:assert/strict';
import { fileURLToPath } from 'node:url';
import { readCaptureFile } from '../../src/capture/file.ts';
import { HEADER, PACKET, type PacketRecord, RECORD_PACKET } from '../../src/capture/records.ts';
import type { SqlExchange } from '../../src/exchange/sql.ts';
import { FlowTable } from '../../src/flow/table.ts';
import { createDetectLayer } from '../../src/protocol/detect.ts';
import { defaultAllLimits } from '../../src/protocol/registry.ts';
import { type Counters, newCounters } from '../../src/telemetry/counters.ts';
import { newProtocols } from '../support/wire/protocols.ts';

export interface Replayed {
  exchanges: SqlExchange[];
  counters: Counters;
  /** Time of the first packet that was seen. */
  firstUs: number;
  /** Of the file. */
  packets: number;
}

/**
 * A capture of plain connections through every stage up to the exchanges, with its texts as they are.
 *
 * @param name of a file below data/
 * @param wanted which packets, by their number in the file from 0, are seen; default: all
 * @param rawText texts are as they were sent; else their literals are replaced
 */
export async function replaySql(
  name: string,
  wanted: (packet: number) => boolean = () => true,
  rawText = true,
): Promise<Replayed> {
  const counters = newCounters();
  const exchanges: SqlExchange[] = [];
  const protocols = newProtocols({ sql: { maxTextBytes: 1 << 20, rawText } });
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
          emit: (exchange) => {
            assert.notEqual(exchange.protocol, 'http');
            exchanges.push(exchange as SqlExchange);
          },
          mute: () => control.mute(),
          wantTicks: (on) => control.wantTicks(on),
          swapRoles: () => control.swapRoles(),
        },
        protocols,
      ),
  });
  let number = 0;
  let firstUs = 0;
  let lastUs = 0;
  await readCaptureFile(
    fileURLToPath(new URL(`data/${name}`, import.meta.url)),
    (chunk, length) => {
      for (const record of packets(chunk, length)) {
        if (!wanted(number++)) continue;
        lastUs = record.timeUs;
        firstUs ||= lastUs;
        table.tick(lastUs);
        table.packet(record);
      }
    },
    { onSecrets: () => undefined },
  );
  table.closeAll('shutdown', lastUs);
  return { exchanges, counters, firstUs, packets: number };
}

function* packets(bytes: Buffer, length: number): Generator<PacketRecord> {
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
