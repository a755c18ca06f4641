import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import { findMemoryLimit, MEMORY_LIMIT_VARIABLE, memoryBudgetBytes } from '../../../src/config/memory-limit.ts';

const MIB = 1024 * 1024;
const files = (all: Record<string, string>) => (path: string) => all[path];

describe('the memory limit of the process', () => {
  it('version 2: the least on the way up', () => {
    const read = files({
      '/proc/self/mounts': 'cgroup2 /sys/fs/cgroup cgroup2 rw 0 0\n',
      '/proc/self/cgroup': '0::/a.slice/b.service\n',
      '/sys/fs/cgroup/a.slice/b.service/memory.max': 'max\n',
      '/sys/fs/cgroup/a.slice/b.service/memory.high': '900000000\n',
      '/sys/fs/cgroup/a.slice/memory.max': '500000000\n',
    });
    assert.deepEqual(findMemoryLimit({}, read), { bytes: 500_000_000, source: '/sys/fs/cgroup/a.slice/memory.max' });
  });

  it('version 1, where "no limit" is a large number', () => {
    const read = (limit: string) =>
      files({
        '/proc/self/mounts': 'cgroup /sys/fs/cgroup/memory cgroup rw,memory 0 0\ncgroup2 /u cgroup2 rw 0 0\n',
        '/proc/self/cgroup': '4:memory:/job\n0::/\n',
        '/sys/fs/cgroup/memory/job/memory.limit_in_bytes': limit,
        '/sys/fs/cgroup/memory/memory.limit_in_bytes': '9223372036854771712\n',
      });
    assert.equal(findMemoryLimit({}, read('9223372036854771712\n')), undefined);
    assert.equal(findMemoryLimit({}, read('1073741824\n'))?.bytes, 1024 * MIB);
  });

  it('the variable of the chart, and neither', () => {
    assert.deepEqual(
      findMemoryLimit({ [MEMORY_LIMIT_VARIABLE]: '536870912' }, () => undefined),
      {
        bytes: 512 * MIB,
        source: MEMORY_LIMIT_VARIABLE,
      },
    );
    for (const text of ['', 'much', '-1', '0']) {
      assert.equal(
        findMemoryLimit({ [MEMORY_LIMIT_VARIABLE]: text }, () => undefined),
        undefined,
      );
    }
  });

  it('gives the pipeline a quarter, within bounds, or what the configuration says', () => {
    const limit = (mib: number) => ({ bytes: mib * MIB, source: '' });
    assert.equal(memoryBudgetBytes(0, undefined), 256 * MIB);
    assert.equal(memoryBudgetBytes(0, limit(1024)), 256 * MIB);
    assert.equal(memoryBudgetBytes(0, limit(512)), 128 * MIB);
    assert.equal(memoryBudgetBytes(0, limit(64)), 32 * MIB);
    assert.equal(memoryBudgetBytes(0, limit(64 * 1024)), 1024 * MIB);
    assert.equal(memoryBudgetBytes(300, limit(512)), 300 * MIB);
  });
});
