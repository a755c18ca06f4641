/** Processes that make what is read about them hurt: the agent lives, answers, keeps its memory, and finds others meanwhile. */
import assert from 'node:assert/strict';
import { chmodSync, copyFileSync, existsSync, mkdirSync, readFileSync, rmdirSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { after, suite, test } from 'node:test';
import { fileURLToPath } from 'node:url';
import { serverScript, startServer } from '../support/http/servers.ts';
import { newCgroup } from '../support/kernel/cgroup.ts';
import { assertKernelClean } from '../support/kernel/kernel.ts';
import { waitedForCpuMs } from '../support/kernel/waiting.ts';
import { startAgent } from '../support/programs/agent.ts';
import { type Cleanup, cleanupAfter } from '../support/programs/cleanup.ts';
import { freePort, until } from '../support/programs/net.ts';
import { mainCommand } from '../support/programs/paths.ts';
import { run, start } from '../support/programs/process.ts';

const HOSTILE = fileURLToPath(new URL('../support/hostile/process.py', import.meta.url));
const MEMORY_MIB = 512;
/** The agent answers a probe within this: one of Kubernetes waits one second. */
const PROBE_MS = 1000;
const REQUESTS = 12;

/** Each with what the statistics call what it cost. */
const CASES: readonly { name: string; reasons: readonly string[] }[] = [
  { name: 'maps', reasons: ['maps_bytes_limit', 'maps_time_limit', 'process_budget', 'container_budget'] },
  { name: 'environment', reasons: ['environment_bytes_limit'] },
  { name: 'loader', reasons: ['loader_configuration_limit'] },
  { name: 'files', reasons: ['process_budget', 'container_budget', 'elf_bytes_limit'] },
  { name: 'names', reasons: ['libraries_per_folder_limit', 'not_a_regular_file'] },
  { name: 'silent', reasons: ['reader_hung', 'left_alone'] },
];

/** Puts a command into a cgroup with a limit of memory, by either version of cgroups. */
async function limited(cleanup: Cleanup): Promise<readonly string[]> {
  const first = '/sys/fs/cgroup/memory';
  const isFirst = existsSync(`${first}/memory.limit_in_bytes`);
  const path = isFirst ? `${first}/wirespan-test-limit-${process.pid}` : (await newCgroup(cleanup)).path;
  if (isFirst) {
    mkdirSync(path);
    cleanup.add(() =>
      until(() => {
        try {
          rmdirSync(path);
          return true;
        } catch {
          return undefined;
        }
      }, `${path} is empty`),
    );
  }
  writeFileSync(join(path, isFirst ? 'memory.limit_in_bytes' : 'memory.max'), String(MEMORY_MIB * 1024 * 1024));
  return ['sh', '-c', `echo $$ > ${path}/cgroup.procs && exec "$0" "$@"`];
}

interface Watch {
  worstMs: number;
  peakMib: number;
  stop(): Promise<void>;
}

/** How long the agent's main thread and that of this test stood in line for a processor: no silence of the agent's. */
function inLineMs(pid: number): number {
  const own = Number(readFileSync('/proc/self/schedstat', 'latin1').split(' ')[1]) / 1e6;
  return waitedForCpuMs(pid) + own;
}

/** Asks for health without a pause and looks at the process's memory. */
function watch(port: number, pid: number): Watch {
  let over = false;
  const result: Watch = { worstMs: 0, peakMib: 0, stop: async () => {} };
  const done = (async () => {
    while (!over) {
      const begunMs = performance.now() - inLineMs(pid);
      const answer = await fetch(`http://127.0.0.1:${port}/healthz`, { signal: AbortSignal.timeout(20_000) });
      await answer.text();
      assert.equal(answer.status, 200);
      result.worstMs = Math.max(result.worstMs, performance.now() - inLineMs(pid) - begunMs);
      const peak = /VmHWM:\s+(\d+)/.exec(readFileSync(`/proc/${pid}/status`, 'latin1'))?.[1];
      result.peakMib = Math.max(result.peakMib, Number(peak ?? 0) / 1024);
      await new Promise((resolve) => setTimeout(resolve, 20));
    }
  })();
  result.stop = async () => {
    over = true;
    await done;
  };
  return result;
}

suite('hostile processes', () => {
  after(assertKernelClean);
  for (const { name, reasons } of CASES) {
    test(name, async (t) => {
      const cleanup = cleanupAfter(t);
      const cgroup = await newCgroup(cleanup);
      const folder = await cleanup.temporaryFolder();
      chmodSync(folder, 0o755);
      const port = await freePort();
      const prefix = await limited(cleanup);
      const agent = await startAgent(cleanup, {
        prefix,
        command: mainCommand(),
        args: ['--cgroup', cgroup.path, '--listen', `127.0.0.1:${port}`],
      });
      const watched = watch(port, agent.running.pid);
      const hostileFolder = join(folder, 'hostile');
      mkdirSync(hostileFolder);
      const [sh, ...words] = [...cgroup.prefix, 'python3', HOSTILE, name, hostileFolder];
      const hostile = start(cleanup, sh!, words);
      await hostile.waitFor('stdout', /^ready/m);
      await new Promise((resolve) => setTimeout(resolve, 2000));

      // A program that nobody has seen before: its file is another one than that of the agent's own Node.
      const program = join(folder, 'honest-node');
      copyFileSync(process.execPath, program);
      chmodSync(program, 0o755);
      const server = await startServer(cleanup, [program, serverScript('node-server.mjs')], { prefix: cgroup.prefix });
      const [inside, ...rest] = cgroup.prefix;
      for (let request = 0; request < REQUESTS; request++) {
        await run(inside!, [...rest, 'curl', '-sk', '-o', '/dev/null', `${server.url}/bytes/${request}`]);
        await new Promise((resolve) => setTimeout(resolve, 200));
      }
      const ours = (await agent.waitForSpans(2 * REQUESTS)).filter(
        ({ attributes }) => attributes['server.port'] === server.port,
      );
      assert.equal(ours.length, 2 * REQUESTS);
      await hostile.stop('SIGKILL');
      await watched.stop();
      const { stats, stderr } = await agent.stop();
      const { reader } = stats as unknown as { reader: Record<string, number> };
      assert.equal(stats.spans.exported, 2 * REQUESTS, stderr);
      assert.deepEqual(
        [stats.connections.tls, stats.connections.decrypted, stats.packets.lost],
        [REQUESTS, REQUESTS, 0],
        JSON.stringify(stats.connections),
      );
      assert.deepEqual(
        [...new Set(ours.map(({ resource }) => resource['service.name']))].sort(),
        ['curl', 'honest-node'],
        JSON.stringify(reader),
      );
      assert.ok(
        reasons.some((reason) => (reader[reason] ?? 0) > 0),
        JSON.stringify(reader),
      );
      t.diagnostic(
        `${name}: slowest answer ${Math.round(watched.worstMs)} ms, peak ${Math.round(watched.peakMib)} MiB, ${JSON.stringify(reader)}`,
      );
      assert.ok(watched.peakMib < MEMORY_MIB, `${watched.peakMib} MiB`);
      assert.ok(watched.worstMs < PROBE_MS, `${watched.worstMs} ms`);
    });
  }
});
