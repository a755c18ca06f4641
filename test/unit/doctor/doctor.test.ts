import assert from 'node:assert/strict';
import { test } from 'node:test';
import { capabilityRemedy, checkCapabilities } from '../../../src/doctor/capabilities.ts';
import { describeFeature } from '../../../src/doctor/kernel.ts';
import { type Check, canRun, type Report, toJson, toText } from '../../../src/doctor/report.ts';
import { checkSystem } from '../../../src/doctor/system.ts';

const good: Check = { group: 'System', name: 'BTF', state: 'ok', detail: '/sys/kernel/btf/vmlinux' };
const missing: Check = {
  group: 'Rights',
  name: 'CAP_BPF',
  state: 'no',
  detail: 'missing: cannot load\nand more',
  remedy: 'run it as root',
};
const lesser: Check = { group: 'Rights', name: 'CAP_SYS_PTRACE', state: 'limited', detail: 'missing' };

const report: Report = {
  version: '1.2.3',
  checks: [good, missing, { ...missing, name: 'CAP_NET_ADMIN' }, lesser],
  processes: [
    {
      pid: 10,
      name: 'nginx',
      state: 'probeable',
      library: '/usr/lib/libcrypto.so.3',
      version: 'OpenSSL 3',
      detail: 'is probed',
    },
    {
      pid: 11,
      name: 'wg\u001b[31met',
      state: 'unsupported_library',
      library: '/usr/lib/libgnutls.so.30',
      detail: 'not probed in this version',
    },
    { pid: 12, name: 'sleep', state: 'no_tls_library', detail: '' },
    { pid: 13, name: 'gone', state: 'unreadable', detail: '' },
  ],
};

test('the agent can run unless something required is missing', () => {
  assert.equal(canRun(report), false);
  assert.equal(canRun({ ...report, checks: [good, lesser] }), true);
});

test('text: groups, marks, processes, verdict and what to do, once', () => {
  assert.equal(
    toText(report, false),
    `wirespan 1.2.3

System
  ok  BTF             /sys/kernel/btf/vmlinux

Rights
  NO  CAP_BPF         missing: cannot load
  NO  CAP_NET_ADMIN   missing: cannot load
  --  CAP_SYS_PTRACE  missing

Processes that use TLS
  ok  nginx (10)      OpenSSL 3 in /usr/lib/libcrypto.so.3: is probed
  --  wg?[31met (11)  /usr/lib/libgnutls.so.30: not probed in this version
      1 more          no TLS library was recognised; their plain traffic is seen
  --  1 more          could not be looked into

The agent cannot run here: CAP_BPF, CAP_NET_ADMIN.
  - run it as root
`,
  );
  assert.match(toText({ ...report, checks: [good] }, false), /\n\nThe agent can run here\.\n$/);
});

test('colours say the same', () => {
  const coloured = toText(report, true);
  assert.notEqual(coloured, toText(report, false));
  const plain = coloured
    .split('\u001b[')
    .map((part, index) => (index === 0 ? part : part.slice(part.indexOf('m') + 1)))
    .join('');
  assert.equal(plain, toText(report, false));
});

test('json: one object with the verdict', () => {
  const parsed = JSON.parse(toJson(report));
  assert.equal(parsed.canRun, false);
  assert.deepEqual(parsed.checks, report.checks);
  assert.deepEqual(parsed.processes, report.processes);
});

test('capabilities are read from the effective set', () => {
  const effective = (mask: string) =>
    checkCapabilities(`Name:\tx\nCapPrm:\tffffffffffffffff\nCapEff:\t${mask}\n`)
      .filter((each) => each.effective)
      .map((each) => each.name);
  assert.deepEqual(effective('0000000000000000'), []);
  assert.deepEqual(effective('000001ffffffffff').length, 5);
  assert.deepEqual(effective('0000008000000000'), ['CAP_BPF']);
  assert.deepEqual(effective('0000000000081000'), ['CAP_NET_ADMIN', 'CAP_SYS_PTRACE']);
  assert.deepEqual(effective('0000000000200000'), ['CAP_BPF', 'CAP_PERFMON']);
  assert.ok(checkCapabilities('').every((each) => !each.effective));
  assert.match(
    capabilityRemedy('/opt/node'),
    /setcap cap_bpf,cap_net_admin,cap_perfmon,cap_sys_ptrace,cap_dac_read_search\+ep \/opt\/node$/,
  );
});

test('a feature of the kernel, in words', () => {
  assert.deepEqual(describeFeature({ name: 'cgroup_skb', ok: true, detail: 'works' }), {
    group: 'Kernel',
    name: 'packets of sockets',
    state: 'ok',
    detail: 'works',
  });
  assert.equal(describeFeature({ name: 'socket_iterator', ok: false, detail: 'x' }).state, 'limited');
  assert.equal(describeFeature({ name: 'capture_programs', ok: false, detail: 'x' }).state, 'no');
  assert.equal(describeFeature({ name: 'something_new', ok: false, detail: 'x' }).state, 'limited');
});

test('this machine', () => {
  const checks = checkSystem();
  for (const name of ['kernel', 'Node', 'process ids', 'CAP_BPF']) {
    assert.equal(checks.filter((check) => check.name === name).length, 1, name);
  }
  for (const check of checks) if (check.state === 'no') assert.ok(check.remedy, `${check.name} says what to do`);
});
