import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import { SECRET_TLS13_HANDSHAKE } from '../../../src/capture/records.ts';
import { defaultLimits } from '../../../src/config/limits.ts';
import { handshakeName, randomName, SecretStore } from '../../../src/secrets/store.ts';
import { newCounters } from '../../../src/telemetry/counters.ts';

function store(limits = {}) {
  const counters = newCounters();
  return { counters, store: new SecretStore({ ...defaultLimits, ...limits }, counters) };
}

function kernel(n: number, timeUs: number) {
  const context = Buffer.alloc(32, n);
  const secret = Buffer.alloc(32, n + 100);
  return {
    record: { timeUs, pid: 1, kind: SECRET_TLS13_HANDSHAKE, library: 0, secret, context } as const,
    secret,
    context,
  };
}

const random = (n: number) => Buffer.alloc(32, n);
const line = (n: number, label = 'CLIENT_TRAFFIC_SECRET_0') =>
  `${label} ${random(n).toString('hex')} ${'55'.repeat(32)}`;

describe('the store of secrets', () => {
  test('is asked by name and label', () => {
    const { store: secrets } = store();
    const { record, context, secret } = kernel(1, 5);
    secrets.addKernelSecret(record);
    secrets.addKeyLogText(`# comment\n${line(1)}\r\n\n${line(1, 'SERVER_TRAFFIC_SECRET_0')}`);
    assert.equal(secrets.size, 2);
    assert.deepEqual(secrets.get(handshakeName(context), 'TLS13_HANDSHAKE'), secret);
    assert.equal(secrets.get(handshakeName(random(2)), 'TLS13_HANDSHAKE'), undefined);
    assert.equal(secrets.get(randomName(random(1)), 'SERVER_TRAFFIC_SECRET_0')?.length, 32);
    assert.equal(secrets.get(randomName(random(1)), 'EXPORTER_SECRET'), undefined);
  });

  test('wakes who watches, until he no longer does', () => {
    const { store: secrets } = store();
    let woken = 0;
    const wake = () => {
      woken++;
      // Watching may end within the call.
      if (woken === 2) secrets.unwatch(randomName(random(1)), wake);
    };
    secrets.watch(randomName(random(1)), wake);
    secrets.addKeyLogLine(line(2));
    assert.equal(woken, 0);
    for (let i = 0; i < 3; i++) secrets.addKeyLogLine(line(1));
    assert.equal(woken, 2);
  });

  test('forgets the oldest beyond its number, and zeroes it', () => {
    const { store: secrets, counters } = store({ secrets: 2 });
    const all = [1, 2, 3].map((n) => kernel(n, 5));
    for (const { record } of all) secrets.addKernelSecret(record);
    assert.equal(secrets.size, 2);
    assert.deepEqual(all[0]!.secret, Buffer.alloc(32));
    assert.notDeepEqual(all[1]!.secret, Buffer.alloc(32));
    assert.equal(counters.secrets.evicted, 1);
  });

  test('forgets what is old, but not a key log without time', () => {
    const { store: secrets, counters } = store({ secretUs: 1000 });
    secrets.addKeyLogLine(line(9));
    const old = kernel(1, 5);
    secrets.addKernelSecret(old.record);
    secrets.addKeyLogLine(line(8), 100);
    secrets.addKernelSecret(kernel(2, 1005).record);
    assert.equal(secrets.size, 4);
    secrets.advance(1006);
    assert.equal(secrets.size, 3);
    assert.deepEqual(old.secret, Buffer.alloc(32));
    secrets.advance(10_000);
    assert.equal(secrets.size, 1);
    assert.ok(secrets.get(randomName(random(9)), 'CLIENT_TRAFFIC_SECRET_0') !== undefined);
    assert.equal(counters.secrets.expired, 3);
  });

  test('counts lines that say nothing to it', () => {
    const { store: secrets, counters } = store();
    secrets.addKeyLogText('nonsense\n\n# comment\nRSA 00 11\nCLIENT_RANDOM 00 11\n');
    assert.deepEqual(counters.secrets, { key_log_line_malformed: 2, key_log_line_unsupported: 1 });
  });

  test('the same secret from both ends replaces itself', () => {
    const { store: secrets } = store();
    const one = kernel(1, 5);
    const other = kernel(1, 6);
    secrets.addKernelSecret(one.record);
    secrets.addKernelSecret(other.record);
    assert.equal(secrets.size, 1);
    assert.deepEqual(one.secret, Buffer.alloc(32));
    assert.deepEqual(secrets.get(handshakeName(one.context), 'TLS13_HANDSHAKE'), Buffer.alloc(32, 101));
    secrets.clear();
    assert.deepEqual(other.secret, Buffer.alloc(32));
  });

  test('forgets and zeroes what a connection that has ended had, but not what a key log was read ahead for', () => {
    const { store: secrets } = store();
    const { record, secret, context } = kernel(1, 5);
    secrets.addKernelSecret(record);
    secrets.forget(handshakeName(context));
    assert.equal(secrets.get(handshakeName(context), 'TLS13_HANDSHAKE'), undefined);
    assert.deepEqual(secret, Buffer.alloc(32));
    secrets.addKeyLogLine(line(1));
    secrets.forget(randomName(random(1)));
    assert.equal(secrets.get(randomName(random(1)), 'CLIENT_TRAFFIC_SECRET_0')?.length, 32);
    secrets.forget(randomName(random(2)));
    assert.equal(secrets.size, 1);
  });

  test('limits the bytes that wait', () => {
    const { store: secrets } = store({ tlsPendingBytes: 100 });
    assert.equal(secrets.reservePending(60), true);
    assert.equal(secrets.reservePending(41), false);
    assert.equal(secrets.pendingBytes, 60);
    secrets.releasePending(60);
    assert.equal(secrets.pendingBytes, 0);
  });
});
