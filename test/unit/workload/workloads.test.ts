import assert from 'node:assert/strict';
import { mkdirSync, mkdtempSync, rmSync, symlinkSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, test } from 'node:test';
import {
  PROCESS_EXEC,
  PROCESS_FIRST_SOCKET,
  type ProcessRecord,
  type SocketRecord,
} from '../../../src/capture/records.ts';
import { Workloads, type WorkloadsOptions } from '../../../src/workload/workloads.ts';

const containerId = '3f0a6c1d9b2e4f58a7c6d5e4f3b2a1908f7e6d5c4b3a29180716253443526170';
const host = { name: 'node-7', id: '0123456789abcdef0123456789abcdef' };

let procRoot = '';
beforeEach(() => {
  procRoot = mkdtempSync(join(tmpdir(), 'proc-'));
});
afterEach(() => rmSync(procRoot, { recursive: true, force: true }));

interface FakeProcess {
  readonly exe?: string;
  readonly comm?: string;
  readonly words?: readonly string[];
  readonly environ?: readonly string[];
  readonly cgroup?: string;
  readonly startTicks?: number;
}

function fake(
  pid: number,
  { exe, comm = 'x', words = [], environ = [], cgroup = '0::/', startTicks = 100 }: FakeProcess,
): void {
  const directory = join(procRoot, String(pid));
  rmSync(directory, { recursive: true, force: true });
  mkdirSync(directory);
  writeFileSync(join(directory, 'stat'), `${pid} (${comm}) S ${Array(18).fill('0').join(' ')} ${startTicks} 0 0\n`);
  writeFileSync(join(directory, 'cmdline'), words.map((word) => `${word}\0`).join(''));
  writeFileSync(join(directory, 'environ'), environ.map((entry) => `${entry}\0`).join(''));
  writeFileSync(join(directory, 'cgroup'), `${cgroup}\n`);
  if (exe !== undefined) symlinkSync(exe, join(directory, 'exe'));
}

const socketDefaults = { timeUs: 0, peerCookie: 0, cgroupId: 0, netns: 0, comm: 'x', ownerKnown: true, own: false };

function socket(cookie: number, pid: number, more: Partial<SocketRecord> = {}): SocketRecord {
  return { ...socketDefaults, cookie, pid, processStartNs: 1_000_000_123, ...more };
}

function event(pid: number, reason: ProcessRecord['reason'], more: Partial<ProcessRecord> = {}): ProcessRecord {
  return { timeUs: 0, pid, processStartNs: 1_000_000_123, reason, comm: 'x', filename: '', ...more };
}

function workloads(more: Partial<WorkloadsOptions> = {}): Workloads {
  return new Workloads({ host, agentVersion: '1.2.3', procRoot, ...more });
}

test('all that is known of a process becomes one resource, shared by its sockets', () => {
  fake(7, {
    exe: '/usr/bin/node',
    comm: 'Main) Thr(ead',
    words: ['node', '/srv/orders.js'],
    environ: ['OTEL_RESOURCE_ATTRIBUTES=service.version=4,process.pid=1,host.name=mine', 'SECRET=x'],
    cgroup: `0::/docker/${containerId}`,
  });
  const resolver = workloads();
  resolver.socket(socket(1, 7));
  resolver.socket(socket(2, 7));
  const resource = resolver.resourceOf(1);
  assert.equal(resolver.resourceOf(2), resource);
  assert.equal(resolver.pidOf(1), 7);
  assert.equal(resolver.counts.processesRead, 1);
  assert.equal(resource?.name, 'orders');
  assert.match(
    String(resource.attributes['service.instance.id']),
    /^[0-9a-f]{8}-[0-9a-f]{4}-5[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}$/,
  );
  assert.deepEqual(
    { ...resource.attributes, 'service.instance.id': '' },
    {
      'service.name': 'orders',
      'service.instance.id': '',
      'service.version': '4',
      'host.name': 'mine',
      'host.id': host.id,
      'os.type': 'linux',
      'container.id': containerId,
      'process.pid': 7,
      'process.executable.name': 'node',
      'process.executable.path': '/usr/bin/node',
      'telemetry.distro.name': 'wirespan',
      'telemetry.distro.version': '1.2.3',
    },
  );
});

test('service.name: the environment, else the unit, else the program', () => {
  const cgroup = '0::/system.slice/shop.service';
  fake(1, { exe: '/usr/sbin/nginx', cgroup, environ: ['OTEL_SERVICE_NAME=named'] });
  fake(2, { exe: '/usr/sbin/nginx', cgroup });
  fake(3, { exe: '/usr/sbin/nginx (deleted)' });
  const resolver = workloads();
  const names = [1, 2, 3].map((pid) => {
    resolver.socket(socket(pid, pid));
    return resolver.resourceOf(pid)?.name;
  });
  assert.deepEqual(names, ['named', 'shop', 'nginx']);
});

test('the same process has the same instance id in two runs, another process has another', () => {
  fake(1, { exe: '/bin/a' });
  fake(2, { exe: '/bin/a' });
  const idOf = (pid: number) => {
    const resolver = workloads();
    resolver.socket(socket(1, pid));
    return resolver.resourceOf(1)?.attributes['service.instance.id'];
  };
  assert.equal(idOf(1), idOf(1));
  assert.notEqual(idOf(1), idOf(2));
});

test('a program that is gone at its socket record was read at its exec', () => {
  fake(9, { exe: '/usr/bin/curl', environ: ['OTEL_SERVICE_NAME=prober'] });
  const resolver = workloads();
  resolver.process(event(9, PROCESS_EXEC, { filename: '/usr/bin/curl' }));
  rmSync(join(procRoot, '9'), { recursive: true });
  resolver.process(event(9, PROCESS_FIRST_SOCKET));
  resolver.socket(socket(5, 9));
  assert.equal(resolver.resourceOf(5)?.name, 'prober');
});

test('a program that was never there to be read is named by what the kernel said', () => {
  const resolver = workloads();
  resolver.process(event(9, PROCESS_EXEC, { filename: '/usr/bin/curl', comm: 'curl' }));
  resolver.socket(socket(5, 9, { comm: 'curl' }));
  assert.equal(resolver.resourceOf(5)?.attributes['process.executable.path'], '/usr/bin/curl');
  resolver.socket(socket(6, 10, { comm: 'MainThread' }));
  assert.equal(resolver.resourceOf(6)?.name, 'node');
  resolver.socket(socket(7, 11, { comm: '' }));
  assert.equal(resolver.resourceOf(7)?.name, 'unknown_service');
  assert.equal(resolver.counts.processesVanished, 3);
});

test('an exec makes another workload of the same process; sockets of before keep theirs', () => {
  fake(4, { exe: '/bin/sh', words: ['sh'] });
  const resolver = workloads();
  resolver.socket(socket(1, 4));
  fake(4, { exe: '/usr/bin/curl' });
  resolver.process(event(4, PROCESS_EXEC));
  resolver.socket(socket(2, 4));
  assert.deepEqual([resolver.resourceOf(1)?.name, resolver.resourceOf(2)?.name], ['sh', 'curl']);
});

test('a process id that is used again is another process', () => {
  fake(4, { exe: '/bin/old', startTicks: 100 });
  const resolver = workloads();
  resolver.socket(socket(1, 4));
  fake(4, { exe: '/bin/new', startTicks: 5000 });
  resolver.socket(socket(2, 4, { processStartNs: 50_000_000_000 }));
  // This one was the old process's, which is gone: the new one must not stand for it.
  const late = workloads();
  late.socket(socket(3, 4, { comm: 'old' }));
  assert.deepEqual(
    [resolver.resourceOf(1)?.name, resolver.resourceOf(2)?.name, late.resourceOf(3)?.name],
    ['old', 'new', 'old'],
  );
});

test('a socket without an owner has no resource, also when it had one', () => {
  fake(4, { exe: '/bin/a' });
  const resolver = workloads();
  resolver.socket(socket(1, 4, { ownerKnown: false }));
  assert.equal(resolver.resourceOf(1), undefined);
  resolver.socket(socket(1, 4));
  assert.equal(resolver.pidOf(1), 4);
  resolver.socket(socket(1, 0));
  assert.equal(resolver.pidOf(1), undefined);
  resolver.socket(socket(1, 4));
  resolver.forgetSocket(1);
  assert.equal(resolver.resourceOf(1), undefined);
});

test('tables are bounded, and what is forgotten is counted', () => {
  const resolver = workloads({ limits: { workloadProcesses: 2, workloadSockets: 3 } });
  for (let n = 1; n <= 5; n++) {
    fake(n, { exe: `/bin/p${n}` });
    resolver.socket(socket(n, n));
  }
  assert.deepEqual(
    [1, 2, 3, 4, 5].map((n) => resolver.resourceOf(n)?.name),
    [undefined, undefined, 'p3', 'p4', 'p5'],
  );
  assert.equal(resolver.counts.socketsEvicted, 2);
  assert.equal(resolver.counts.processesEvicted, 3);
});

test('a storm of execs is read at the first socket only', () => {
  let nowMs = 0;
  const resolver = workloads({ now: () => nowMs });
  for (let n = 0; n < 300; n++) resolver.process(event(1000 + n, PROCESS_EXEC, { filename: `/bin/p${n}` }));
  assert.equal(resolver.counts.readsPutOff, 100);
  resolver.socket(socket(1, 1299));
  assert.equal(resolver.resourceOf(1)?.name, 'p299');
  nowMs = 1000;
  resolver.process(event(2000, PROCESS_EXEC));
  assert.equal(resolver.counts.readsPutOff, 100);
});

test('this very process', () => {
  const resolver = new Workloads({ host, agentVersion: '1' });
  resolver.socket(socket(1, process.pid, { processStartNs: 0 }));
  assert.equal(resolver.resourceOf(1)?.attributes['process.executable.path'], process.execPath);
  assert.equal(resolver.counts.processesRead, 1);
});

test('a large environment is read whole', () => {
  fake(3, { exe: '/bin/a', environ: ['A='.padEnd(300_000, 'x'), 'OTEL_SERVICE_NAME=behind'] });
  const resolver = workloads();
  resolver.socket(socket(1, 3));
  assert.equal(resolver.resourceOf(1)?.name, 'behind');
});

test('a process that has ended and was not waited for is named by what the kernel said', () => {
  fake(7, { comm: 'curl', cgroup: `0::/docker/${containerId}` });
  const resolver = workloads();
  resolver.process(event(7, PROCESS_EXEC, { comm: 'curl', filename: '/usr/bin/curl' }));
  resolver.socket(socket(1, 7));
  const resource = resolver.resourceOf(1);
  assert.equal(resource?.name, 'curl');
  assert.equal(resource.attributes['process.executable.name'], 'curl');
  assert.equal(resource.attributes['container.id'], containerId);
  assert.deepEqual([resolver.counts.processesRead, resolver.counts.processesVanished], [0, 1]);
});
