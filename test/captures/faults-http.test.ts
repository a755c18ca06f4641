/** Captures whose exchanges were once missing or wrong, as the command line reads them. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { fileURLToPath } from 'node:url';
import { replayCapture } from '../support/replay.ts';

const file = (name: string): string => fileURLToPath(new URL(`faults/${name}`, import.meta.url));

test('a PROXY header in front of HTTP', () => {
  const { spans, stats } = replayCapture(file('proxy-protocol-v1-http.pcap'));
  assert.equal(spans.length, 1);
  assert.partialDeepStrictEqual(spans[0], {
    name: 'GET',
    attributes: {
      'url.path': '/proxy1',
      'http.response.status_code': 200,
      'client.address': '192.0.2.7',
      'client.port': 51_000,
      'network.peer.address': '10.0.0.1',
    },
  });
  assert.partialDeepStrictEqual(stats, { connections: { tcp: 1, unrecognised: {} }, incomplete: {} });
});
