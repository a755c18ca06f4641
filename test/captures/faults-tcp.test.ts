/** Captures of TCP and TLS whose exchanges were once missing or whose ids were not unique, as the command line reads them. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { fileURLToPath } from 'node:url';
import { replayCapture } from '../support/programs/replay.ts';

const file = (name: string): string => fileURLToPath(new URL(`faults/${name}`, import.meta.url));
const outcomes = ({ spans }: ReturnType<typeof replayCapture>): unknown[][] =>
  spans.map(({ name, attributes }) => [name, attributes['url.path'], attributes['http.response.status_code']]);
const whole = { connections: { tcp: 1, ended: { fin: 1 }, unrecognised: {} }, incomplete: {} };

test('a reset with an old number in mid-connection: it goes on', () => {
  const replayed = replayCapture(file('tcp-reset-old-number.pcap'));
  assert.deepEqual(outcomes(replayed), [
    ['GET', '/r1', 200],
    ['GET', '/r2', 200],
    ['GET', '/r3', 200],
  ]);
  assert.partialDeepStrictEqual(replayed.stats, { ...whole, reassembly: { bad_reset: 1 } });
});

test('a SYN in an established connection, answered by a challenge: it goes on, and nothing is a gap', () => {
  const replayed = replayCapture(file('tcp-syn-in-connection.pcap'));
  assert.deepEqual(outcomes(replayed), [
    ['GET', '/s1', 200],
    ['GET', '/s2', 200],
    ['GET', '/s3', 200],
  ]);
  assert.partialDeepStrictEqual(replayed.stats, whole);
  assert.deepEqual(replayed.stats.reassembly, { syn_in_connection: 1 });
});

test('an acknowledgement that stands before its request in the file', () => {
  const replayed = replayCapture(file('tcp-ack-before-data.pcap'));
  assert.deepEqual(outcomes(replayed), [
    ['GET', '/a1', 200],
    ['GET', '/a2', 200],
    ['GET', '/a3', 200],
  ]);
  assert.partialDeepStrictEqual(replayed.stats, whole);
  assert.deepEqual(replayed.stats.reassembly, { ack_before_data: 1 });
});

test('one connection before and after address translation: every span has an id of its own', () => {
  for (const perspective of ['server', 'both']) {
    const { spans } = replayCapture(file('tcp-seen-twice-dnat.pcap'), '--perspective', perspective);
    assert.equal(spans.length, perspective === 'both' ? 4 : 2);
    assert.equal(new Set(spans.map(({ spanId }) => spanId)).size, spans.length);
    assert.equal(new Set(spans.map(({ traceId }) => traceId)).size, 2);
  }
});

test('a ClientHello whose first record holds one octet', () => {
  const replayed = replayCapture(
    file('tls-first-record-one-octet.pcap'),
    '--keylog',
    file('tls-first-record-one-octet.keys'),
  );
  assert.deepEqual(outcomes(replayed), [
    ['GET', '/one', 200],
    ['GET', '/two', 200],
  ]);
  assert.partialDeepStrictEqual(replayed.stats, { connections: { tcp: 1, tls: 1, decrypted: 1 } });
});
