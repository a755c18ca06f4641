import assert from 'node:assert/strict';
import { spawn } from 'node:child_process';
import { closeSync, mkdtempSync, openSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, describe, it } from 'node:test';
import { loadConfig } from '../../../src/config/load.ts';
import { createOutputs } from '../../../src/export/create.ts';
import { LineWriter } from '../../../src/export/line-writer.ts';
import { newCounters } from '../../../src/telemetry/counters.ts';
import { Log } from '../../../src/telemetry/log.ts';
import { builder, exchange, seen } from '../../support/spans/fixtures.ts';

const directory = mkdtempSync(join(tmpdir(), 'wirespan-lines-'));
after(() => rmSync(directory, { recursive: true }));

function setUp() {
  const lines: string[] = [];
  const log = new Log({ level: 'debug', format: 'text', write: (line) => lines.push(line) });
  return { lines, log, counters: newCounters() };
}

describe('line writer', () => {
  it('writes everything in order and counts it', async () => {
    const { log, counters } = setUp();
    const path = join(directory, 'all');
    const writer = new LineWriter({ name: 'x', path, deliveries: counters.spans, log });
    let wanted = '';
    for (let i = 0; i < 5000; i++) {
      writer.write(`line ${i} \u00fc\n`, 2);
      wanted += `line ${i} \u00fc\n`;
      if (i % 1000 === 0) await new Promise((resolve) => setImmediate(resolve));
    }
    await writer.end(5000);
    assert.equal(readFileSync(path, 'utf8'), wanted);
    assert.equal(counters.spans.exported, 10_000);
    writer.write('late\n', 3);
    assert.ok(counters.spans.exported === 10_000 && Object.values(counters.spans.dropped)[0] === 3);
  });

  it('says once that a device is full, and counts what it lost', async () => {
    const { log, counters, lines } = setUp();
    let broken = 0;
    const writer = new LineWriter({
      name: 'x',
      path: '/dev/full',
      deliveries: counters.spans,
      log,
      onBroken: () => broken++,
    });
    writer.write('a\n', 1);
    writer.write('b\n', 2);
    await new Promise((resolve) => setTimeout(resolve, 50));
    writer.write('c\n', 4);
    await writer.end(1000);
    assert.deepEqual(counters.spans.dropped, { write_failed: 7 });
    assert.equal(counters.spans.exported, 0);
    assert.equal(broken, 1);
    assert.equal(lines.filter((line) => line.includes('the disk is full')).length, 1);
  });

  it('drops beyond its bound while nobody reads, then writes what it kept', async () => {
    const { log, counters } = setUp();
    const fifo = join(directory, 'fifo');
    await new Promise((resolve) => spawn('mkfifo', [fifo]).on('exit', resolve));
    // Opened for both directions, so that it does not wait for a reader; full after 64 KiB.
    const both = openSync(fifo, 'r+');
    const fd = openSync(fifo, 'a+');
    closeSync(both);
    const nonBlocking = openSync(`/proc/self/fd/${fd}`, 0o1 | 0o4000);
    const writer = new LineWriter({
      name: 'x',
      path: undefined,
      fd: nonBlocking,
      deliveries: counters.spans,
      log,
      maxBytes: 200_000,
    });
    const text = `${'x'.repeat(999)}\n`;
    for (let i = 0; i < 300; i++) writer.write(text, 1);
    assert.equal(counters.spans.dropped.output_full, 100);
    const startMs = performance.now();
    await writer.end(100);
    assert.ok(performance.now() - startMs < 1000);
    const written = counters.spans.exported;
    // Whole lines that the pipe took, and no others: it holds 64 KiB.
    assert.equal(written, 65);
    assert.equal(counters.spans.dropped.deadline, 200 - written);
    closeSync(nonBlocking);
    closeSync(fd);
  });

  it('ends quietly when the reader of standard output goes away', async () => {
    const script = `
      import { LineWriter } from ${JSON.stringify(new URL('../../../src/export/line-writer.ts', import.meta.url).href)};
      import { newCounters } from ${JSON.stringify(new URL('../../../src/telemetry/counters.ts', import.meta.url).href)};
      const counters = newCounters();
      const log = { info: (m) => process.stderr.write('info ' + m), warn() {}, error: (m) => process.stderr.write('error ' + m) };
      const writer = new LineWriter({ name: 'x', path: undefined, deliveries: counters.spans, log, onBroken: () => clearInterval(timer) });
      let sent = 0;
      const timer = setInterval(() => { for (let i = 0; i < 100; i++) { writer.write('x'.repeat(99) + '\\n', 1); sent++; } }, 1);
      process.on('beforeExit', () => process.stderr.write(' ' + (sent === counters.spans.exported + (counters.spans.dropped.reader_gone ?? 0))));
    `;
    const child = spawn(process.execPath, ['--input-type=module', '--eval', script]);
    let errors = '';
    child.stderr.on('data', (chunk) => {
      errors += chunk;
    });
    child.stdout.once('data', () => child.stdout.destroy());
    const code = await new Promise((resolve) => child.on('exit', resolve));
    assert.equal(code, 0, errors);
    assert.equal(errors, 'info the reader of the output has gone true');
  });
});

describe('otlp-json output', () => {
  const config = loadConfig(undefined);

  it('writes a request per line, with each span in it', async () => {
    const { log, counters } = setUp();
    const path = join(directory, 'spans.jsonl');
    const [output] = await createOutputs([`otlp-json=${path}`], {
      counters,
      log,
      version: '1',
      environment: {},
      config,
    });
    const spans = builder({ counters });
    for (let i = 0; i < 300; i++) {
      const each = exchange({ streamOffset: i });
      const made = spans.build(each);
      output!.exchange(each, made, seen(each, made));
    }
    await output!.shutdown(5000);
    const lines = readFileSync(path, 'utf8').trimEnd().split('\n');
    assert.equal(lines.length, 3);
    let found = 0;
    for (const line of lines) {
      const request = JSON.parse(line);
      assert.deepEqual(
        request.resourceSpans.map((group: { resource: { attributes: unknown[] } }) => group.resource.attributes[0]),
        [
          { key: 'service.name', value: { stringValue: 'curl' } },
          { key: 'service.name', value: { stringValue: 'nginx' } },
        ],
      );
      for (const group of request.resourceSpans) {
        assert.deepEqual(group.scopeSpans[0].scope, { name: 'wirespan', version: '1' });
        found += group.scopeSpans[0].spans.length;
      }
    }
    assert.equal(found, 600);
    assert.deepEqual(counters.spans, { made: 600, exported: 600, dropped: {}, leftOut: {} });
  });

  it('says which file cannot be opened', async () => {
    const { log, counters } = setUp();
    await assert.rejects(
      () => createOutputs(['otlp-json=/nowhere/x'], { counters, log, version: '1', environment: {}, config }),
      /otlp-json: cannot write \/nowhere\/x: there is no such folder/,
    );
    await assert.rejects(
      () => createOutputs(['oltp'], { counters, log, version: '1', environment: {}, config }),
      /unknown output "oltp"/,
    );
  });
});

describe('jsonl output', () => {
  it('writes a line per exchange that became spans, and counts the spans', async () => {
    const { log, counters } = setUp();
    const path = join(directory, 'exchanges.jsonl');
    const [output] = await createOutputs([`jsonl=${path}`], {
      counters,
      log,
      version: '1',
      environment: {},
      config: loadConfig(undefined),
    });
    const spans = builder({ counters });
    for (let i = 0; i < 300; i++) {
      const each = exchange({ streamOffset: i, target: `/${i}` });
      const made = spans.build(each);
      output!.exchange(each, made, seen(each, made));
      output!.exchange(each, [], seen(each, []));
    }
    assert.equal(output!.state()?.name, `jsonl=${path}`);
    await output!.shutdown(5000);
    const lines = readFileSync(path, 'utf8').trimEnd().split('\n');
    assert.deepEqual(
      lines.map((line) => JSON.parse(line).details.target),
      Array.from({ length: 300 }, (_, i) => `/${i}`),
    );
    assert.equal(counters.spans.exported, 600);
  });

  it('drops the lines of a full disk, counted', async () => {
    const { log, counters } = setUp();
    const options = { counters, log, version: '1', environment: {}, config: loadConfig(undefined) };
    const [output] = await createOutputs(['jsonl=/dev/full'], options);
    const each = exchange();
    for (let i = 0; i < 10; i++) {
      const made = builder({ counters }).build(each);
      output!.exchange(each, made, seen(each, made));
    }
    await output!.shutdown(5000);
    assert.deepEqual([counters.spans.exported, counters.spans.dropped], [0, { write_failed: 20 }]);
    const missing = createOutputs(['jsonl=/nowhere/x'], options);
    await assert.rejects(missing, /^Error: jsonl: cannot write \/nowhere\/x: there is no such folder/);
  });
});
