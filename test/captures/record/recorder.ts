/** Runs traffic over the loopback device of a network namespace of its own, and keeps every packet of it. */
import { readFile, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { fileURLToPath } from 'node:url';
import { gzipSync } from 'node:zlib';
import { PcapReader } from '../../../src/pcapng/pcap.ts';
import type { Cleanup } from '../../support/programs/cleanup.ts';
import { run, start } from '../../support/programs/process.ts';
import type { Frame } from '../../support/wire/capture-files.ts';

/** As Ethernet has it. */
export const ETHERNET_MTU = 1500;
/** Of the loopback device. */
export const LOOPBACK_MTU = 65_536;

/** How long dumpcap takes, at most, to write what it has. */
const FLUSH_MS = 1000;
/** The length of a link header. */
const ETHERNET_HEADER = 14;

/** One capture that can be made again. */
export interface Recording {
  /** The name of its file, below data/; compressed when it ends in .gz. */
  name: string;
  /** Makes the traffic, and returns the file before it is compressed, and the key log that stands beside it. */
  make(cleanup: Cleanup): Promise<{ file: Buffer; keyLog?: string }>;
}

/** Segments of the device's MTU, one packet each: none is cut or joined by the kernel. */
export async function setMtu(mtu: number): Promise<void> {
  await run('ip', ['link', 'set', 'dev', 'lo', 'mtu', String(mtu), 'up']);
  await run('ip', ['link', 'set', 'dev', 'lo', 'gso_max_segs', mtu === LOOPBACK_MTU ? '65535' : '1']);
}

/**
 * The first `count` packets from a port do not arrive: they are in the capture, and are sent again.
 * @param lengths of the IP packets: `100:999`
 */
export async function lose(cleanup: Cleanup, port: number, lengths: string, count: number): Promise<void> {
  const which = ['-p', 'tcp', '--sport', String(port), '-m', 'length', '--length', lengths];
  const first = ['-m', 'limit', '--limit', '1/hour', '--limit-burst', String(count)];
  const rule = ['INPUT', ...which, ...first, '-j', 'DROP'];
  await run('iptables', ['-A', ...rule]);
  cleanup.add(() => run('iptables', ['-D', ...rule]));
}

/** Every TCP packet of the connections to a port that `traffic` opens, from the Ethernet header on. */
export async function record(cleanup: Cleanup, port: number, traffic: () => Promise<void>): Promise<Frame[]> {
  const path = join(await cleanup.temporaryFolder(), 'recorded.pcap');
  const dumpcap = start(cleanup, 'dumpcap', ['-P', '-i', 'lo', '-s', '0', '-f', `tcp port ${port}`, '-w', path]);
  await dumpcap.waitFor('stderr', /^File: /m);
  await traffic();
  await sleep(FLUSH_MS);
  await dumpcap.stop('SIGINT');
  const bytes = await readFile(path);
  const frames: Frame[] = [];
  new PcapReader(bytes.length).read(bytes, 0, {
    frame: (_linkType, timeUs, file, start, end) =>
      frames.push({ timeUs: Math.floor(timeUs), bytes: Buffer.from(file.subarray(start, end)) }),
    secrets: () => undefined,
  });
  // What waited for the server may still be closing its connection.
  const opened = new Set(
    frames
      .map(segmentOf)
      .filter(({ flags }) => (flags & (SYN | ACK)) === SYN)
      .map(({ from }) => from),
  );
  return frames.filter((frame) => [segmentOf(frame).from, segmentOf(frame).to].some((end) => opened.has(end)));
}

/** What a frame's TCP header says. */
export interface Segment {
  frame: Frame;
  /** Ports. */
  from: number;
  to: number;
  flags: number;
  payload: Buffer;
}

export const FIN = 1;
export const SYN = 2;
const ACK = 16;

/** @param frame from the Ethernet header on, with TCP in IPv4 or, without extension headers, IPv6 */
export function segmentOf(frame: Frame): Segment {
  const ip = frame.bytes.subarray(ETHERNET_HEADER);
  const version = ip[0]! >> 4;
  const tcp = version === 4 ? (ip[0]! & 15) * 4 : 40;
  const end = version === 4 ? ip.readUInt16BE(2) : 40 + ip.readUInt16BE(4);
  const payload = ip.subarray(tcp + (ip[tcp + 12]! >> 4) * 4, end);
  return { frame, from: ip.readUInt16BE(tcp), to: ip.readUInt16BE(tcp + 2), flags: ip[tcp + 13]!, payload };
}

/** The same packets under another link header, such as none. */
export function underLink(frames: readonly Frame[], header: readonly number[]): Frame[] {
  return frames.map(({ timeUs, bytes }) => ({
    timeUs,
    bytes: Buffer.concat([Buffer.from(header), bytes.subarray(ETHERNET_HEADER)]),
  }));
}

/** Writes a recording below data/, in the place of the one before. */
export async function save({ name, make }: Recording, cleanup: Cleanup): Promise<void> {
  const { file, keyLog } = await make(cleanup);
  const path = fileURLToPath(new URL(`../data/${name}`, import.meta.url));
  await writeFile(path, name.endsWith('.gz') ? gzipSync(file, { level: 9 }) : file);
  if (keyLog !== undefined) await writeFile(`${path}.keylog`, keyLog);
}
