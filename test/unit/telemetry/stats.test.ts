import assert from 'node:assert/strict';
import { execFileSync } from 'node:child_process';
import { mkdtempSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { test } from 'node:test';
import { newCounters } from '../../../src/telemetry/counters.ts';
import { processUsage, toStats, writeStats } from '../../../src/telemetry/stats.ts';

const usage = { cpuSeconds: 1.5, wallSeconds: 2, peakRssBytes: 3 };

test('the names that other tools read', () => {
  const counters = newCounters();
  counters.packets.captured = 10;
  counters.packets.bytes = 1000;
  counters.packets.lost = { packet_ring_full: 2, control_ring_full: 1 };
  counters.connections.tcp = 4;
  counters.connections.undecryptable = { no_secret: 1 };
  counters.exchanges = { http: 3 };
  counters.spans.made = 6;
  const stats = JSON.parse(JSON.stringify(toStats(counters, {}, usage)));
  const { packets, connections, exchanges, incomplete, spans, parseErrors, cpuSeconds, wallSeconds, peakRssBytes } =
    stats;
  assert.deepEqual([packets.captured, packets.lost, packets.bytes], [10, 3, 1000]);
  assert.deepEqual(
    [connections.tcp, connections.tls, connections.decrypted, connections.undecryptable],
    [4, 0, 0, { no_secret: 1 }],
  );
  assert.deepEqual(exchanges, { http: 3 });
  assert.deepEqual([incomplete, parseErrors], [{}, {}]);
  assert.deepEqual([spans.made, spans.exported, spans.dropped], [6, 0, {}]);
  assert.deepEqual({ cpuSeconds, wallSeconds, peakRssBytes }, usage);
});

test('more may be said, but not otherwise', () => {
  const stats = toStats(newCounters(), { packets: 'no', cpuSeconds: 99, probes: 2 }, usage) as unknown as Record<
    string,
    unknown
  >;
  assert.equal(stats.cpuSeconds, 1.5);
  assert.equal(stats.probes, 2);
  assert.equal(typeof stats.packets, 'object');
  assert.deepEqual(stats.reassembly, {});
});

test('what the process has used', () => {
  const { cpuSeconds, wallSeconds, peakRssBytes } = processUsage();
  assert.ok(cpuSeconds > 0.01 && cpuSeconds < 600);
  assert.ok(wallSeconds > 0.01 && wallSeconds < 600);
  const [, peakKib] = /VmHWM:\s+(\d+) kB/.exec(readFileSync('/proc/self/status', 'utf8')) ?? [];
  assert.ok(Math.abs(peakRssBytes / 1024 / Number(peakKib) - 1) < 0.1, `${peakRssBytes} and ${peakKib} KiB`);
});

test('to a file, replacing it, and to standard output', async () => {
  const directory = mkdtempSync(join(tmpdir(), 'stats-'));
  try {
    const file = join(directory, 'stats.json');
    const stats = toStats(newCounters(), {}, usage);
    await writeStats(file, toStats(newCounters(), { long: 'x'.repeat(1000) }, usage));
    await writeStats(file, stats);
    assert.deepEqual(JSON.parse(readFileSync(file, 'utf8')), JSON.parse(JSON.stringify(stats)));
    await assert.rejects(
      writeStats(join(directory, 'none', 'x'), stats),
      /--stats: cannot write .*: there is no such folder/,
    );
  } finally {
    rmSync(directory, { recursive: true });
  }
  const stats = new URL('../../../src/telemetry/stats.ts', import.meta.url).href;
  const counters = new URL('../../../src/telemetry/counters.ts', import.meta.url).href;
  const program = `import { toStats, writeStats } from '${stats}'; import { newCounters } from '${counters}';
    await writeStats('-', toStats(newCounters()));`;
  const output = execFileSync(process.execPath, ['--input-type=module-typescript', '-e', program], {
    encoding: 'utf8',
  });
  assert.ok(output.endsWith('}\n'));
  assert.ok(JSON.parse(output).peakRssBytes > 1e6);
});
