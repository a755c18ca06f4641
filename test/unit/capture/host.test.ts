import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import { findCgroupRoot } from '../../../src/capture/cgroup.ts';
import { effectiveCapabilities } from '../../../src/capture/features.ts';
import { KernelClock } from '../../../src/capture/kernel-clock.ts';

describe('findCgroupRoot', () => {
  it('finds the hierarchy of a unified, a hybrid and an unusual machine', () => {
    assert.equal(
      findCgroupRoot('proc /proc proc rw 0 0\ncgroup2 /sys/fs/cgroup cgroup2 rw,nosuid 0 0\n'),
      '/sys/fs/cgroup',
    );
    const hybrid = 'cgroup /sys/fs/cgroup/cpu cgroup rw,cpu 0 0\ncgroup2 /sys/fs/cgroup/unified cgroup2 rw 0 0\n';
    assert.equal(findCgroupRoot(hybrid), '/sys/fs/cgroup/unified');
    assert.equal(findCgroupRoot('none /run/my\\040groups cgroup2 rw 0 0\n'), '/run/my groups');
  });

  it('prefers the usual place to copies of it', () => {
    const mounts = 'cgroup2 /var/lib/x/cgroup cgroup2 rw 0 0\ncgroup2 /sys/fs/cgroup cgroup2 rw 0 0\n';
    assert.equal(findCgroupRoot(mounts), '/sys/fs/cgroup');
  });

  it('says what to do where there is none', () => {
    assert.throws(() => findCgroupRoot('cgroup /sys/fs/cgroup/cpu cgroup rw,cpu 0 0\n'), /mount -t cgroup2/);
  });
});

describe('KernelClock', () => {
  it('reads the offset again once a second of event time, and follows its steps', () => {
    let offset = 1_790_000_000_000_000;
    let reads = 0;
    const clock = new KernelClock(() => {
      reads++;
      return offset;
    });
    assert.equal(clock.unixUs(500), offset + 500);
    offset += 3_600_000_000;
    assert.equal(clock.unixUs(999_999), offset - 3_600_000_000 + 999_999);
    assert.equal(reads, 1);
    assert.equal(clock.unixUs(1_000_500), offset + 1_000_500);
    assert.equal(clock.unixUs(600_000), offset + 600_000);
    assert.equal(reads, 2);
  });

  it('gives the wall time of now for the time since boot', () => {
    const uptimeUs = Number(process.hrtime.bigint() / 1000n);
    const before = Date.now();
    // CLOCK_MONOTONIC is behind CLOCK_BOOTTIME by the time that the machine slept: at least not ahead.
    assert.ok(new KernelClock().unixUs(uptimeUs) / 1000 <= before + 10);
  });
});

describe('effectiveCapabilities', () => {
  it('reads the bits of CapEff', () => {
    const effective = (mask: string) =>
      effectiveCapabilities(`Name:\tx\nCapEff:\t${mask}\n`)
        .filter(({ ok }) => ok)
        .map(({ name }) => name);
    assert.deepEqual(effective('0000000000000000'), []);
    assert.deepEqual(effective('000000c000001000'), ['NET_ADMIN', 'PERFMON', 'BPF']);
    assert.equal(effective('000001ffffffffff').length, 7);
  });
});
