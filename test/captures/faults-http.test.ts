/** Captures whose exchanges were once missing or wrong, as the command line reads them. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { fileURLToPath } from 'node:url';
import { replayCapture } from '../support/programs/replay.ts';

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

const outcomes = (name: string): (string | number | undefined)[][] =>
  replayCapture(file(name)).spans.map(({ name: span, attributes }) => [
    span,
    attributes['http.request.method'] as string,
    attributes['http.request.method_original'] as string | undefined,
    attributes['http.response.status_code'] as number,
  ]);

test('a method that is not well known, with a target of 5,000 octets', () => {
  assert.deepEqual(outcomes('http-search-long-target.pcap'), [
    ['HTTP', '_OTHER', 'SEARCH', 200],
    ['GET', 'GET', undefined, 200],
  ]);
});

test('a request whose body was left out after a final status, before an extension method', () => {
  assert.deepEqual(outcomes('http-expect-body-left-out-mkcol.pcap'), [
    ['PUT', 'PUT', undefined, 409],
    ['HTTP', '_OTHER', 'MKCOL', 201],
    ['GET', 'GET', undefined, 200],
  ]);
  const [put] = replayCapture(file('http-expect-body-left-out-mkcol.pcap')).spans;
  assert.equal(Math.round((put!.endUs - put!.startUs) / 10), 110);
});
