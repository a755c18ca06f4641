import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import { FROM_CLIENT, FROM_SERVER } from '../../../src/flow/connection.ts';
import { Bench } from '../../support/protocols/cases.ts';
import { Replay, recordNode } from '../../support/tls/records.ts';

describe('the time of a record', () => {
  for (const version of ['TLSv1.2', 'TLSv1.3'] as const) {
    test(`${version}: data is whole with the last segment of its record and began with the first`, async () => {
      const only = { minVersion: version, maxVersion: version };
      const recording = await recordNode({
        server: only,
        client: only,
        dialogue: async (client, server) => {
          await client.say('a'.repeat(1000));
          await server.say('b'.repeat(1000));
          await client.say('c'.repeat(1000));
        },
      });
      const replay = new Replay();
      replay.store.addKeyLogText(recording.keyLog);
      const times: Record<string, [number, number]> = {};
      for (const { direction, bytes } of recording.chunks) {
        const before = replay.outcome.times.length;
        const firstUs = replay.timeUs;
        for (let at = 0; at < bytes.length; at += 100) {
          replay.timeUs = firstUs + at * 10;
          replay.data(direction, bytes.subarray(at, at + 100));
        }
        const seen = replay.outcome.times.at(-1);
        if (replay.outcome.times.length > before && seen !== undefined) {
          times[`${direction} ${before}`] = [seen.firstUs! - firstUs, seen.timeUs - firstUs];
        }
        replay.timeUs += 1_000_000;
      }
      // The client's first data may follow its Finished in one segment; the others are records of their own.
      assert.deepEqual(times['1 1'], [0, 10_000]);
      assert.deepEqual(times['0 2'], [0, 10_000]);
      assert.equal(replay.outcome.times.length, 3);
    });
  }

  test('an exchange begins, and its response, with the first byte; both end with the last', () => {
    const bench = new Bench();
    const request = Buffer.from('GET / HTTP/1.1\r\n\r\n');
    const response = Buffer.from('HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok');
    bench.layer.data(FROM_CLIENT, request, 0, request.length, 200, 100);
    bench.layer.data(FROM_SERVER, response, 0, response.length, 400, 300);
    const [exchange] = bench.exchanges;
    assert.deepEqual(
      [exchange?.startUs, exchange?.requestEndUs, exchange?.responseStartUs, exchange?.endUs],
      [100, 200, 300, 400],
    );
  });
});
