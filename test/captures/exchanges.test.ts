import assert from 'node:assert/strict';
import { execFile } from 'node:child_process';
import { existsSync, mkdtempSync, readdirSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { basename, join } from 'node:path';
import { after, before, describe, it } from 'node:test';
import { fileURLToPath } from 'node:url';
import { promisify } from 'node:util';
import type { ExchangeView } from '../../src/export/view.ts';
import { endpointKeys, viewKeys } from '../../src/export/view-reference.ts';
import { type FlatSpan, parseSpans } from '../support/otlp/spans.ts';
import { mainCommand } from '../support/programs/paths.ts';

/*
 * The lines of `--output jsonl` of captures, with both endpoints, against the spans of the same run, which the golden spans hold: one line per pair
 * of spans, and each fact of a line is that of its spans.
 */

const execute = promisify(execFile);
const folder = fileURLToPath(new URL('data/', import.meta.url));
const captures = readdirSync(folder)
  .filter((file) => /\.pcap(?:ng)?(?:\.gz)?$/.test(file))
  .sort();

/** What a line and its spans say alike, as the line has it; undefined where the span has nothing. */
function factsOfSpan({ attributes, status }: FlatSpan) {
  const seconds = (name: string) =>
    attributes[name] === undefined ? undefined : Math.round(Number(attributes[name]) * 1e9) / 1e3;
  return {
    error: attributes['error.type'],
    incomplete: attributes['wirespan.exchange.incomplete'],
    failed: status.code === 2,
    text: attributes['db.query.text'],
    method: attributes['rpc.method'] ?? attributes['http.request.method'],
    statusCode: attributes['http.response.status_code'],
    firstRowUs: seconds('wirespan.db.response.time_to_first_row'),
    firstMessageUs: seconds('wirespan.rpc.response.time_to_first_message'),
    tls: attributes['tls.protocol.version'],
    cipher: attributes['tls.cipher'],
    namespace: attributes['db.namespace'],
    affectedRows: attributes['wirespan.db.response.affected_rows'],
  };
}

function factsOfLine({ details, tls, ...view }: ExchangeView) {
  const isCall = view.protocol === 'grpc';
  const status = isCall ? (details.httpStatusCode === 200 ? undefined : details.httpStatusCode) : details.statusCode;
  return {
    error: view.error,
    incomplete: view.incomplete,
    failed: view.error !== undefined,
    text: details.text,
    method: details.method ?? (isCall || view.protocol === 'http' ? '_OTHER' : undefined),
    statusCode: view.protocol === 'http' || isCall ? status : undefined,
    firstRowUs: view.firstRowUs,
    firstMessageUs: view.firstMessageUs,
    tls: tls?.version,
    cipher: tls?.cipher,
    namespace: details.namespace,
    affectedRows: details.affectedRows,
  };
}

/** url.full, as the target and the host of a line make it. */
function checkTarget({ protocol, details }: ExchangeView, span: FlatSpan): void {
  if (protocol !== 'http' && protocol !== 'websocket') return;
  const path = String(details.target).replace(/^https?:\/\/[^/]*/, '');
  if (details.method !== 'CONNECT' && path !== '*') assert.ok(String(span.attributes['url.full']).endsWith(path));
}

describe('lines of exchanges', () => {
  let work = '';
  before(() => {
    work = mkdtempSync(join(tmpdir(), 'wirespan-exchanges-'));
  });
  after(() => rmSync(work, { recursive: true }));

  it('are of captures that are there', () => assert.ok(captures.length >= 5, captures.join(' ')));

  for (const capture of captures) {
    it(`of ${basename(capture)} say what its spans say`, async () => {
      const [lines, otlp] = ['lines', 'spans'].map((kind) => join(work, `${capture}.${kind}`));
      const keyLog = [`${capture}.keylog`, capture.replace(/\.pcap$/, '.keys')].find(
        (file) => file !== capture && existsSync(join(folder, file)),
      );
      const [command, ...words] = [
        ...[...mainCommand(), 'replay', join(folder, capture), '--perspective', 'both'],
        ...['--output', `otlp-json=${otlp}`, '--output', `jsonl=${lines}`],
        ...(keyLog === undefined ? [] : ['--keylog', join(folder, keyLog)]),
      ];
      await execute(command!, words, { timeout: 120_000 });
      const spans = new Map(parseSpans(readFileSync(otlp!, 'utf8')).map((span) => [span.spanId, span]));
      const text = readFileSync(lines!, 'utf8');
      const views: ExchangeView[] = text
        .split('\n')
        .filter((line) => line !== '')
        .map((line) => JSON.parse(line));
      assert.ok(text === '' || text.endsWith('\n'));
      assert.ok(views.length > 0);
      assert.equal(2 * views.length, spans.size);
      for (const view of views) {
        for (const key of Object.keys(view)) assert.ok(Object.hasOwn(viewKeys, key), key);
        for (const key of Object.keys(view.client)) assert.ok(Object.hasOwn(endpointKeys, key), key);
        const [client, server] = [view.client, view.server].map(({ spanId }) => spans.get(spanId!)!);
        assert.deepEqual(factsOfLine(view), factsOfSpan(client!));
        checkTarget(view, client!);
        assert.deepEqual([client!.traceId, server!.traceId], [view.traceId, view.traceId]);
        assert.equal(view.server.parentSpanId, server!.parentSpanId);
        assert.ok(Math.abs(view.startUnixUs - client!.startUs) < 1);
        assert.ok(Math.abs(view.durationUs - (client!.endUs - client!.startUs)) < 1);
        assert.deepEqual(
          [view.client.port, view.client.address],
          [server!.attributes['network.peer.port'], server!.attributes['network.peer.address']],
        );
        assert.deepEqual(view.server.resource, server!.resource);
      }
    });
  }
});
