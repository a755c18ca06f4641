/** The spool of the real program from one run to the next: what the first could not deliver the next one does, and each counts its part. */
import assert from 'node:assert/strict';
import { readdir } from 'node:fs/promises';
import { join } from 'node:path';
import { suite, test } from 'node:test';
import { acceptHttp, GrpcBackend, HttpBackend } from '../support/otlp/backend.ts';
import { startExportRun } from '../support/otlp/export-run.ts';
import { cleanupAfter } from '../support/programs/cleanup.ts';
import { freePort, until } from '../support/programs/net.ts';

const SENT = 400;

suite('spool from run to run', { concurrency: 3 }, () => {
  test('nobody there, then somebody', async (t) => {
    const cleanup = cleanupAfter(t);
    const folder = join(await cleanup.temporaryFolder(), 'spool');
    const backend = new GrpcBackend();
    backend.port = await freePort();
    const run = (seed: number, flushMs: number, copies: object[]) =>
      startExportRun(cleanup, {
        traffic: { exchanges: 200, seed },
        config: {
          otlp: { endpoint: backend.endpoint },
          otlp_copies: copies,
          export: { flush_deadline_ms: flushMs, spool_folder: folder },
        },
      });
    const copy = { name: 'gone', endpoint: 'http://127.0.0.1:1', protocol: 'http/protobuf' };
    const first = await run(1, 300, [copy]);
    const { spans, otherOutputs } = await first.ended();
    const kept = { exported: 0, dropped: {}, spool: { recovered: 0, left: SENT, damagedBytes: 0 } };
    assert.deepEqual({ exported: spans.exported, dropped: spans.dropped, spool: spans.spool }, kept);
    assert.deepEqual(otherOutputs['otlp:gone'], kept);
    assert.match(first.running.stderr, /left in the spool for the next run spans=400/);

    await backend.start(cleanup);
    const { spans: after } = await (await run(2, 60_000, [])).ended();
    assert.deepEqual(
      [after.made, after.exported, after.dropped, after.spool],
      [SENT, 2 * SENT, {}, { recovered: SENT, left: 0, damagedBytes: 0 }],
    );
    assert.equal(backend.spans, 2 * SENT);
    assert.deepEqual(await readdir(join(folder, 'otlp')), []);
    // The other backend's are its own.
    assert.ok((await readdir(join(folder, 'otlp-gone'))).length > 0);
  });

  test('no answer in time: kept, and sent again with the same ids', async (t) => {
    const cleanup = cleanupAfter(t);
    const folder = join(await cleanup.temporaryFolder(), 'spool');
    const backend = await new HttpBackend().start(cleanup);
    backend.behave = () => ({ rejected: 0 });
    const run = (exchanges: number, flushMs: number) =>
      startExportRun(cleanup, {
        traffic: { exchanges },
        config: {
          otlp: { endpoint: backend.endpoint, protocol: 'http/protobuf' },
          export: { flush_deadline_ms: flushMs, spool_folder: folder, in_flight: 8 },
        },
      });
    const { spans } = await (await run(200, 1500)).ended();
    assert.deepEqual([spans.exported, spans.dropped, spans.spool!.left], [0, {}, SENT]);
    // What came already, though no answer said so, comes again.
    const { length: before } = backend.requests;
    backend.behave = acceptHttp;
    const { spans: after } = await (await run(0, 60_000)).ended();
    assert.deepEqual(
      [after.made, after.exported, after.spool],
      [0, SENT, { recovered: SENT, left: 0, damagedBytes: 0 }],
    );
    assert.equal(backend.requests.length, before + 8);
    assert.equal(backend.spans, SENT);
  });

  test('a folder is for one at a time', async (t) => {
    const cleanup = cleanupAfter(t);
    const folder = join(await cleanup.temporaryFolder(), 'spool');
    const config = { otlp: { endpoint: 'http://127.0.0.1:1' }, export: { flush_deadline_ms: 0, spool_folder: folder } };
    const first = await startExportRun(cleanup, { stdin: 'open', config });
    await until(
      async () => ((await readdir(join(folder, 'otlp')).catch((): string[] => [])).includes('lock') ? true : undefined),
      'the lock',
    );
    const second = await startExportRun(cleanup, { config });
    const result = await second.running.exited;
    assert.equal(result.exitCode, 1);
    assert.equal(
      result.stderr,
      `wirespan: otlp: the spool in ${folder}/otlp cannot be used: process ${first.running.pid} uses it: each agent needs a folder of its own\n`,
    );
    first.running.child.stdin!.end();
    await first.running.exited;
  });
});
