import assert from 'node:assert/strict';
import { test } from 'node:test';
import { type Invocation, parseArguments, UsageError } from '../../../src/cli/arguments.ts';
import { mergeConfiguration } from '../../../src/cli/configuration.ts';
import { helpText } from '../../../src/cli/help.ts';

function parse(line: string): Invocation {
  return parseArguments(line === '' ? [] : line.split(' '));
}

test('commands and their options', () => {
  assert.deepEqual(parse(''), { kind: 'help', command: undefined, asked: false });
  assert.deepEqual(parse('--help'), { kind: 'help', command: undefined, asked: true });
  assert.deepEqual(parse('help replay'), { kind: 'help', command: 'replay', asked: true });
  assert.deepEqual(parse('agent --stats - -h'), { kind: 'help', command: 'agent', asked: true });
  assert.deepEqual(parse('--version'), { kind: 'version' });
  assert.deepEqual(parse('doctor'), { kind: 'doctor', json: false });
  assert.deepEqual(parse('doctor --json'), { kind: 'doctor', json: true });
  const agent = parse(
    'agent --output otlp -o otlp-json=a=b.jsonl --config c --keylog k --stats - --cgroup /x --listen :9464 --pcapng p --perspective both --log-level debug --log-format json',
  );
  assert.deepEqual(agent, {
    kind: 'agent',
    options: {
      outputs: ['otlp', 'otlp-json=a=b.jsonl'],
      config: 'c',
      keylog: 'k',
      stats: '-',
      cgroup: '/x',
      listen: ':9464',
      pcapng: 'p',
      perspective: 'both',
      logLevel: 'debug',
      logFormat: 'json',
    },
  });
  const replay = parse('replay a.pcap --output=none - --output none b.pcapng');
  assert.ok(replay.kind === 'replay');
  assert.deepEqual(replay.files, ['a.pcap', '-', 'b.pcapng']);
  assert.deepEqual(replay.options.outputs, ['none']);
  const odd = parse('replay -- --odd.pcap');
  assert.ok(odd.kind === 'replay');
  assert.deepEqual(odd.files, ['--odd.pcap']);
});

/** A command line, the command whose help is to be read, and what is said. */
const wrong: readonly (readonly [string, string | undefined, RegExp])[] = [
  [
    'agnt',
    undefined,
    /^unknown command "agnt": expected agent, replay, doctor, --version or --help; did you mean agent\?$/,
  ],
  ['--verison', undefined, /^unknown option "--verison".*did you mean --version\?$/],
  ['help nothing', undefined, /^unknown command "nothing"/],
  ['agent file.pcap', 'agent', /^unexpected "file.pcap": agent takes options only$/],
  ['agent --outptu x', 'agent', /^unknown option "--outptu"; did you mean --output\?$/],
  ['agent --zzzzzz', 'agent', /^unknown option "--zzzzzz"; expected one of --help, --output, /],
  ['replay --cgroup /x f', 'replay', /^--cgroup is an option of agent, not of replay$/],
  ['agent --json', 'agent', /^--json is an option of doctor, not of agent$/],
  ['agent --stats', 'agent', /^--stats expects a value$/],
  ['agent -o', 'agent', /^--output expects a value$/],
  ['agent --keylog --stats x', 'agent', /^--keylog expects a value$/],
  ['agent --stats=', 'agent', /^--stats expects a value, found an empty one$/],
  [
    'agent --output csv',
    'agent',
    /^--output expects one of otlp, console, otlp-json, otlp-json=FILE, jsonl, jsonl=FILE, none, found "csv"$/,
  ],
  ['agent --output otlp-jsn', 'agent', /did you mean otlp-json\?$/],
  ['agent --output otlp-json=', 'agent', /^--output expects /],
  ['agent --output console --output otlp-json', 'agent', /both write to standard output/],
  ['agent --output none --output otlp', 'agent', /none excludes every other output/],
  ['agent --perspective neither', 'agent', /^--perspective expects client, server, both, found "neither"$/],
  ['agent --listen 9464', 'agent', /^--listen expects HOST:PORT, such as 127.0.0.1:9464 or :9464, found "9464"$/],
  ['replay --listen :9464 f', 'replay', /^--listen is an option of agent, not of replay$/],
  ['agent --log-level loud', 'agent', /^--log-level expects error, warn, info, debug, found "loud"$/],
  ['replay', 'replay', /^expected at least one pcap or pcapng file, or - for standard input$/],
  ['replay - -', 'replay', /can be read only once/],
  ['doctor now', 'doctor', /^unexpected "now": doctor takes options only$/],
  ['doctor --json=yes', 'doctor', /^option '--json' does not take an argument$/],
];

for (const [line, command, message] of wrong) {
  test(`wrong usage: ${line}`, () => {
    assert.throws(
      () => parse(line),
      (error) => {
        assert.ok(error instanceof UsageError, String(error));
        assert.equal(error.command, command);
        assert.match(error.message, message);
        return true;
      },
    );
  });
}

test('the help of every command names each of its options and has an example', () => {
  for (const command of ['agent', 'replay', 'doctor'] as const) {
    const text = helpText(command);
    assert.match(text, /\nExamples?:\n {2}.*wirespan /);
    // The message for an unknown option lists those that are known.
    try {
      parse(`${command} --zzzzzzzzzzzzzzzz`);
      assert.fail('an unknown option was taken');
    } catch (error) {
      const known = (error as Error).message.match(/--[a-z-]+/g)?.slice(1) ?? [];
      assert.ok(known.length >= 2);
      for (const option of known) assert.ok(text.includes(option), `${command}: ${option}`);
    }
    assert.ok(text.split('\n').every((line) => line.length <= 130));
  }
});

test('the command line goes before the environment', () => {
  const warnings: string[] = [];
  const invocation = parse('agent --output console --cgroup /x --listen [::1]:1 --log-level warn');
  assert.ok(invocation.kind === 'agent');
  const config = mergeConfiguration(
    invocation.options,
    {
      OTEL_TRACES_EXPORTER: 'otlp',
      OTEL_LOG_LEVEL: 'debug',
      OTEL_BSP_SCHEDULE_DELAY: '9',
      OTEL_BSP_MAX_QUEUE_SIZE: 'x',
    },
    (warning) => warnings.push(warning),
  );
  assert.deepEqual(config.outputs, ['console']);
  assert.equal(config.capture.cgroup, '/x');
  assert.equal(config.telemetry.listen, '[::1]:1');
  assert.deepEqual(config.log, { level: 'warn', format: 'auto' });
  assert.equal(config.export.batchDelayMs, 9);
  assert.equal(warnings.length, 1);
  const bare = parse('agent');
  assert.ok(bare.kind === 'agent');
  assert.deepEqual(mergeConfiguration(bare.options, { OTEL_TRACES_EXPORTER: 'otlp' }, assert.fail).outputs, ['otlp']);
});
