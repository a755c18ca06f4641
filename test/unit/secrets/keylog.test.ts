import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import fc from 'fast-check';
import { formatKeyLogLine, KEY_LOG_LABELS, parseKeyLogLine } from '../../../src/secrets/keylog.ts';

const random = 'ab'.repeat(32);

describe('key log lines', () => {
  test('each label, with any white space and line end, in either case', () => {
    for (const label of KEY_LOG_LABELS) {
      const secret = 'c1'.repeat(48);
      for (const line of [
        `${label} ${random} ${secret}`,
        `${label} ${random} ${secret}\r\n`,
        `  ${label}\t${random.toUpperCase()}  ${secret.toUpperCase()} \n`,
      ]) {
        const entry = parseKeyLogLine(line);
        assert.ok(typeof entry === 'object', line);
        assert.equal(entry.label, label);
        assert.equal(entry.clientRandom.toString('hex'), random);
        assert.equal(entry.secret.toString('hex'), secret);
        assert.equal(formatKeyLogLine(entry.label, entry.clientRandom, entry.secret), `${label} ${random} ${secret}`);
      }
    }
  });

  test('why a line yields nothing', () => {
    for (const [line, why] of [
      ['', 'blank'],
      ['   \n', 'blank'],
      ['# SSL/TLS secrets log file', 'blank'],
      [`RSA 0123456789abcdef ${'00'.repeat(48)}`, 'unsupported'],
      [`ECH_SECRET ${random} ${'00'.repeat(32)}`, 'unsupported'],
      [`CLIENT_RANDOM ${random} ${'00'.repeat(32)}`, 'malformed'],
      [`CLIENT_RANDOM ${random} ${'00'.repeat(48)} more`, 'malformed'],
      [`CLIENT_RANDOM ${random.slice(2)} ${'00'.repeat(48)}`, 'malformed'],
      [`CLIENT_TRAFFIC_SECRET_0 ${random} ${'00'.repeat(33)}`, 'malformed'],
      [`CLIENT_TRAFFIC_SECRET_0 ${random} ${'0'.repeat(63)}`, 'malformed'],
      [`CLIENT_TRAFFIC_SECRET_0 ${random}`, 'malformed'],
      [`client_random ${random} ${'00'.repeat(48)}`, 'malformed'],
      [`CLIENT_RANDOM ${random} ${'zz'.repeat(48)}`, 'malformed'],
      ['x'.repeat(100_000), 'malformed'],
    ] as const) {
      assert.equal(parseKeyLogLine(line), why, line.slice(0, 60));
    }
  });

  test('nothing throws', () => {
    fc.assert(
      fc.property(fc.string({ maxLength: 300 }), (line) => {
        const entry = parseKeyLogLine(line);
        assert.ok(typeof entry === 'string' || entry.clientRandom.length === 32);
      }),
    );
  });
});
