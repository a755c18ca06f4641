/** What the kernel may put on a stack that those who preempt each other share: bpf/secret_probe.h says why there must be nothing. */
import assert from 'node:assert/strict';
import { readdirSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { test } from 'node:test';
import { type BpfFunction, frameOf, functionsOf, reachable } from '../../support/kernel/bpf-object.ts';
import { root } from '../../support/programs/paths.ts';

/** Linux 6.13 and later: BPF_PRIV_STACK_MIN_SIZE, compared with frames rounded up to 16 (kernel/bpf/verifier.c). */
const PRIVATE_STACK_MIN = 64;
/** Program types with such stacks by libbpf's names of their sections. cgroup programs and iterators have none. */
const WITH_PRIVATE_STACKS =
  /^(uprobe|uretprobe|kprobe|kretprobe|ksyscall|kretsyscall|usdt|tp|tracepoint|raw_tp|raw_tracepoint|tp_btf|perf_event|fentry|fexit|fmod_ret|fsession|lsm|struct_ops)\b/;
const NONE = /^(cgroup|cgroup_skb|iter)\//;

const objects = readdirSync(join(root, 'dist/bpf')).filter((name) => name.endsWith('.bpf.o'));
const read = (name: string) => functionsOf(readFileSync(join(root, 'dist/bpf', name)));
const isProgram = ({ section }: BpfFunction) => section !== '.text';
const rounded = (frame: number) => Math.ceil(frame / 16) * 16;

test('the kind of every program is known here', () => {
  for (const object of objects) {
    for (const { name, section } of read(object).filter(isProgram)) {
      assert.ok(
        WITH_PRIVATE_STACKS.test(section) || NONE.test(section),
        `${name} of ${object} is in section ${section}`,
      );
    }
  }
});

for (const object of objects) {
  const all = read(object);
  for (const { name } of all.filter((one) => WITH_PRIVATE_STACKS.test(one.section))) {
    test(`no frame of ${name} is on a shared stack`, (t) => {
      const reached = [...reachable(all, name).values()];
      t.diagnostic(reached.map((one) => `${one.name} ${one.frame}`).join(', '));
      const shared = reached.filter((one) => rounded(one.frame) >= PRIVATE_STACK_MIN);
      assert.deepEqual(
        shared.map((one) => `${one.name}: ${one.frame} bytes`),
        [],
      );
    });
  }
}

test('frames are measured: those of programs with large variables are as large as these', () => {
  const frames = Object.fromEntries(objects.flatMap(read).map(({ name, frame }) => [name, frame]));
  assert.ok(frames.scan_sockets! >= 72, 'a socket_record');
  assert.ok(frames.socket_create! >= 64, 'a socket_state');
  assert.ok(frames.announce! >= 44 + 44, 'a tcp_packet and a flow_key');
  const programs = objects.flatMap(read).filter(isProgram);
  assert.ok(programs.some(({ name }) => name === 'wirespan_kdf'));
  assert.ok(
    [...reachable(read('openssl.bpf.o'), 'wirespan_kdf').keys()].includes('key_word'),
    'called by what it calls',
  );
});

test('frames are measured in every way that an instruction reaches into one', () => {
  const code = (...instructions: [operation: number, registers: number, offset: number, immediate: number][]) =>
    Buffer.concat(
      instructions.map(([operation, registers, offset, immediate]) => {
        const bytes = Buffer.alloc(8);
        bytes[0] = operation;
        bytes[1] = registers;
        bytes.writeInt16LE(offset, 2);
        bytes.writeInt32LE(immediate, 4);
        return bytes;
      }),
    );
  const EXIT: [number, number, number, number] = [0x95, 0, 0, 0];
  assert.equal(frameOf(code(EXIT)), 0);
  assert.equal(frameOf(code([0x7b, 0x1a, -24, 0], EXIT)), 24, '*(u64 *)(r10 - 24) = r1');
  assert.equal(frameOf(code([0x7a, 0x0a, -40, 7], EXIT)), 40, '*(u64 *)(r10 - 40) = 7');
  assert.equal(frameOf(code([0x79, 0xa1, -56, 0], EXIT)), 56, 'r1 = *(u64 *)(r10 - 56)');
  assert.equal(frameOf(code([0xbf, 0xa2, 0, 0], [0x07, 0x02, 0, -64], EXIT)), 64, 'r2 = r10; r2 += -64');
  const copied: Parameters<typeof code> = [
    [0xbf, 0xa6, 0, 0],
    [0x07, 0x06, 0, -16],
    [0xbf, 0x61, 0, 0],
    [0x7b, 0x21, -72, 0],
  ];
  assert.equal(frameOf(code(...copied, EXIT)), 88, 'r6 = r10; r6 += -16; r1 = r6; *(u64 *)(r1 - 72) = r2');
  assert.equal(
    frameOf(code([0xbf, 0xa1, 0, 0], [0x85, 0, 0, 6], [0x7b, 0x21, -72, 0], EXIT)),
    0,
    'r1 is another after a call',
  );
});
