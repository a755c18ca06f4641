import assert from 'node:assert/strict';
import { mkdtemp, readFile, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { test } from 'node:test';
import { fileURLToPath } from 'node:url';
import { mainCommand } from '../support/programs/paths.ts';
import { run } from '../support/programs/process.ts';
import { ETHERNET, encapsulations, ethernet, ip4, RAW, udp } from '../support/wire/encapsulations.ts';
import { tsharkFields } from '../support/wire/tshark.ts';

/** A pcapng block: type, length, body padded to four bytes, length. */
function block(type: number, body: Buffer): Buffer {
  const padded = (body.length + 3) & ~3;
  const bytes = Buffer.alloc(12 + padded);
  bytes.writeUInt32LE(type, 0);
  bytes.writeUInt32LE(bytes.length, 4);
  body.copy(bytes, 8);
  bytes.writeUInt32LE(bytes.length, 8 + padded);
  return bytes;
}

function words(...values: number[]): Buffer {
  return Buffer.from(new Uint32Array(values).buffer);
}

/** An interface of its own for each frame. */
function pcapng(frames: readonly (readonly [string, number, Buffer])[]): Buffer {
  const section = block(0x0a0d0d0a, words(0x1a2b3c4d, 1, 0xffffffff, 0xffffffff));
  const interfaces = frames.map(([, linkType]) => block(1, words(linkType, 65_535)));
  const packets = frames.map(([, , frame], i) =>
    block(6, Buffer.concat([words(i, 0, i, frame.length, frame.length), frame])),
  );
  return Buffer.concat([section, ...interfaces, ...packets]);
}

// A port that tshark takes for VXLAN's only when it is asked to.
const decodeAs = ['udp.port==8472,vxlan'];

test('tshark finds the same packet in the frames that the unit tests decode', async () => {
  const folder = await mkdtemp(join(tmpdir(), 'wirespan-tunnels-'));
  try {
    const file = join(folder, 'frames.pcapng');
    await writeFile(file, pcapng(encapsulations));
    const fields = ['frame.number', 'tcp.srcport', 'tcp.payload'] as const;
    const packets = await tsharkFields(file, 'tcp', fields, [], decodeAs);
    const payload = Buffer.from('hello, world').toString('hex');
    assert.deepEqual(
      packets.map((packet) => [
        encapsulations[Number(packet['frame.number'][0]) - 1]![0],
        packet['tcp.srcport'].at(-1),
        packet['tcp.payload'].at(-1),
      ]),
      encapsulations.map(([name]) => [name, '40000', payload]),
    );
  } finally {
    await rm(folder, { recursive: true });
  }
});

/** Lines of the console, and messages. */
async function replay(...files: string[]): Promise<{ lines: string[]; messages: string[]; stats: unknown }> {
  const folder = await mkdtemp(join(tmpdir(), 'wirespan-tunnels-'));
  try {
    const stats = join(folder, 'stats.json');
    const [command, ...words] = [...mainCommand(), 'replay', ...files, '--output', 'console', '--stats', stats];
    const { stdout, stderr } = await run(command!, [...words, '--log-format', 'text'], { timeoutMs: 120_000 });
    const { packets } = JSON.parse(await readFile(stats, 'utf8')) as { packets: { ignored: unknown } };
    return { lines: linesOf(stdout), messages: linesOf(stderr), stats: packets.ignored };
  } finally {
    await rm(folder, { recursive: true });
  }
}

function linesOf(text: string): string[] {
  return text.split('\n').filter((line) => line !== '');
}

const fault = (name: string): string => fileURLToPath(new URL(`faults/${name}.pcap`, import.meta.url));

test('replay reads HTTP below a VLAN tag in SLL2, in VXLAN and in IP fragments', async () => {
  const { lines, messages, stats } = await replay(fault('vlan-in-sll2'), fault('vxlan'), fault('ip-fragments'));
  assert.deepEqual(
    lines.map((line) => / (GET \S+) +(\d+) /.exec(line)?.slice(1)),
    [
      ['GET /sll2vlan', '200'],
      ['GET /vxlan', '200'],
      ['GET /frag', '200'],
      ['GET /after', '200'],
    ],
  );
  assert.deepEqual(messages, []);
  assert.deepEqual(stats, {});
});

test('replay says so when most packets of a file hold no TCP', async () => {
  const folder = await mkdtemp(join(tmpdir(), 'wirespan-tunnels-'));
  try {
    const file = join(folder, 'others.pcapng');
    const dns: [string, number, Buffer] = ['DNS', RAW, ip4(17, udp(53, Buffer.alloc(20)))];
    const arp: [string, number, Buffer] = ['ARP', ETHERNET, ethernet('0806', Buffer.alloc(28))];
    await writeFile(file, pcapng([dns, dns, dns, arp, ...encapsulations.slice(0, 4)]));
    const half = await replay(file);
    assert.deepEqual(half.messages, []);
    assert.deepEqual(half.stats, { not_tcp: 3, not_ip: 1 });
    await writeFile(file, pcapng([dns, dns, dns, arp, ...encapsulations.slice(0, 3)]));
    const most = await replay(fault('vxlan'), file);
    assert.equal(most.lines.length, 1);
    assert.equal(most.messages.length, 1);
    assert.match(
      most.messages[0]!,
      /others\.pcapng: 4 of 7 packets hold no TCP segment that can be read \(not_tcp: 3, not_ip: 1\); docs\/reference\/capture-files\.md/,
    );
  } finally {
    await rm(folder, { recursive: true });
  }
});
