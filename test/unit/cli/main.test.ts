import assert from 'node:assert/strict';
import { spawnSync } from 'node:child_process';
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, test } from 'node:test';
import { fileURLToPath } from 'node:url';
import { helpText } from '../../../src/cli/help.ts';

const main = fileURLToPath(new URL('../../../src/main.ts', import.meta.url));
const directory = mkdtempSync(join(tmpdir(), 'main-'));
after(() => rmSync(directory, { recursive: true }));

function run(...words: string[]) {
  return runNode([], ...words);
}

function runNode(flags: readonly string[], ...words: string[]) {
  const { status, stdout, stderr } = spawnSync(process.execPath, [...flags, main, ...words], {
    encoding: 'utf8',
    timeout: 60_000,
  });
  return { status, stdout, stderr };
}

test('nothing: help on standard error, 2', () => {
  assert.deepEqual(run(), { status: 2, stdout: '', stderr: helpText() });
});

test('help and version: standard output, 0', () => {
  assert.deepEqual(run('--help'), { status: 0, stdout: helpText(), stderr: '' });
  assert.deepEqual(run('replay', '--help'), { status: 0, stdout: helpText('replay'), stderr: '' });
  const { version } = JSON.parse(readFileSync(new URL('../../../package.json', import.meta.url), 'utf8')) as {
    version: string;
  };
  assert.deepEqual(run('--version'), { status: 0, stdout: `wirespan ${version}\n`, stderr: '' });
});

test('wrong usage: what was expected, which help to read, 2', () => {
  assert.deepEqual(run('agent', '--outptu', 'x'), {
    status: 2,
    stdout: '',
    stderr: 'wirespan agent: unknown option "--outptu"; did you mean --output?\nRead wirespan agent --help.\n',
  });
});

test('a wrong configuration: every problem by file and line, 2', () => {
  const file = join(directory, 'wrong.yaml');
  writeFileSync(file, 'log:\n  levle: info\ncapture: 3\n');
  assert.deepEqual(run('replay', '--config', file, 'x.pcap'), {
    status: 2,
    stdout: '',
    stderr: `wirespan: ${file}:2:3: unknown key "levle" in log; did you mean "level"?\nwirespan: ${file}:3:10: capture: expected a mapping of keys to values, found 3\n`,
  });
});

test('a failure: the reason, no stack, 1', () => {
  const { status, stderr } = run('replay', '--output', 'none', join(directory, 'missing.pcap'));
  assert.equal(status, 1, stderr);
  assert.match(stderr, /missing\.pcap/);
  assert.doesNotMatch(stderr, /\n\s+at /);
});

test('a file that cannot be opened is told at once, and why', () => {
  const missing = join(directory, 'none', 'x');
  for (const [words, message] of [
    [['--stats', missing], `--stats: cannot write ${missing}: there is no such folder`],
    [['--pcapng', missing], `--pcapng: cannot write ${missing}: there is no such folder`],
    [['--output', `otlp-json=${missing}`], `otlp-json: cannot write ${missing}: there is no such folder`],
    [['--keylog', missing], `--keylog: cannot read ${missing}: there is no such file`],
  ] as const) {
    assert.deepEqual(run('replay', ...words, '-'), { status: 1, stdout: '', stderr: `wirespan: ${message}\n` });
  }
});

test('a replay whose spans nobody takes has failed', () => {
  const capture = fileURLToPath(new URL('../../captures/data/http-pipelined-retransmissions.pcap.gz', import.meta.url));
  const file = join(directory, 'hurry.yaml');
  writeFileSync(file, 'export: { flush_deadline_ms: 100 }\n');
  const env = { ...process.env, OTEL_EXPORTER_OTLP_ENDPOINT: 'http://127.0.0.1:9' };
  const options = { encoding: 'utf8', timeout: 60_000, env } as const;
  const { status, stderr } = spawnSync(
    process.execPath,
    [main, 'replay', '--output', 'otlp', '--config', file, capture],
    options,
  );
  assert.equal(status, 1, stderr);
  // Whoever reads this is no terminal.
  const messages = stderr
    .trim()
    .split('\n')
    .map((line) => JSON.parse(line) as { message: string; level: string; spans?: number });
  const told = messages.find(({ message }) => message === 'spans were not delivered before the deadline of shutdown');
  assert.deepEqual([told?.level, told?.spans], ['warn', 40], stderr);
});

test('help loads neither a dependency nor the addon', () => {
  const loaded = join(directory, 'loaded.mjs');
  const program = `import { registerHooks } from 'node:module';
    registerHooks({ load(url, context, next) { process.stderr.write(url + '\\n'); return next(url, context); } });`;
  writeFileSync(loaded, program);
  const { status, stderr } = runNode(['--import', loaded], 'agent', '--help');
  assert.equal(status, 0);
  const modules = stderr.split('\n').filter((line) => line.includes('://'));
  assert.ok(
    modules.some((line) => line.endsWith('/src/cli/help.ts')),
    stderr,
  );
  assert.deepEqual(
    modules.filter((line) => /node_modules|\.node$|\/(?:export|capture|span)\//.test(line)),
    [],
  );
});
