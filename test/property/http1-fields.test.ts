import assert from 'node:assert/strict';
import { test } from 'node:test';
import fc from 'fast-check';
import { FROM_CLIENT, FROM_SERVER } from '../../src/flow/connection.ts';
import { Bench } from '../support/protocols/cases.ts';

/** Blocks of fields that differ in a value of the same length, in their length, in what they say of the body, or in a line that is none. */
const REQUEST_FIELDS = [
  'Host: a.example\r\nUser-Agent: one\r\n',
  'Host: b.example\r\nUser-Agent: one\r\n',
  'Host: a.example\r\nUser-Agent: one\r\nX-Other: 1\r\n',
  'Host: a.example\r\nUser-Agent: one\r\nContent-Length: 3\r\n',
  'Host: a.example\r\nUser-Agent: one\r\nContent-Length: 5\r\n',
  'Host: a.example\r\nTransfer-Encoding: chunked\r\n',
  'Host: a.example\r\nno field\r\n',
  `Host: a.example\r\nX-Long: ${'v'.repeat(3000)}\r\n`,
  '',
] as const;
const BODIES = ['', '', '', 'abc', 'abcde', '3\r\nabc\r\n0\r\n\r\n', '', '', ''] as const;
const LENGTHS = [0, 0, 0, 3, 5, 3, 0, 0, 0] as const;
const HOSTS = ['a', 'b', 'a', 'a', 'a', 'a', 'a', 'a', undefined] as const;

test('what a message says is its own, whatever the one before it said and wherever its bytes are cut', () => {
  const message = fc.record({
    fields: fc.nat(REQUEST_FIELDS.length - 1),
    // The same again is what is to be found out.
    times: fc.integer({ min: 1, max: 4 }),
    cut: fc.option(fc.nat(200), { nil: undefined }),
  });
  fc.assert(
    fc.property(fc.array(message, { minLength: 1, maxLength: 12 }), (messages) => {
      const bench = new Bench();
      const expected: unknown[] = [];
      let timeUs = 1;
      for (const { fields, times, cut } of messages) {
        for (let i = 0; i < times; i++) {
          const target = `/${expected.length}`;
          const bytes = Buffer.from(`GET ${target} HTTP/1.1\r\n${REQUEST_FIELDS[fields]}\r\n${BODIES[fields]}`);
          const at = Math.min(cut ?? bytes.length, bytes.length);
          bench.feed(FROM_CLIENT, bytes.subarray(0, at), timeUs++);
          if (at < bytes.length) bench.feed(FROM_CLIENT, bytes.subarray(at), timeUs++);
          const length = expected.length % 3;
          bench.feed(
            FROM_SERVER,
            Buffer.from(`HTTP/1.1 200 OK\r\nContent-Length: ${length}\r\n\r\n${'x'.repeat(length)}`),
            timeUs++,
          );
          expected.push([target, HOSTS[fields], LENGTHS[fields], length]);
        }
      }
      assert.deepEqual(
        bench.exchanges.map((e) => [
          e.target,
          e.requestHeaders.get('host')?.[0]?.slice(0, 1),
          e.requestBodyBytes,
          e.responseBodyBytes,
        ]),
        expected,
      );
    }),
    { numRuns: 300 },
  );
});
