import assert from 'node:assert/strict';
import { readdirSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { test } from 'node:test';
import { fileURLToPath } from 'node:url';
import { moduleReasons, protocolModules } from '../../../src/protocol/registry.ts';
import { allReasons, reasonsPage } from '../../../src/telemetry/reasons.ts';

const tables = allReasons(moduleReasons);
const sources = fileURLToPath(new URL('../../../src/', import.meta.url));
const files = readdirSync(sources, { recursive: true, encoding: 'utf8' })
  .filter((file) => file.endsWith('.ts') && !/^(?:telemetry|sql|protocol\/\w+)\/reasons\.ts$/.test(file))
  .map((file) => [file, readFileSync(join(sources, file), 'utf8')] as const);

/** The addon's door, in all its files. */
const native = join(sources, '../native');
const addon = readdirSync(native)
  .filter((file) => /^addon.*\.cc$/.test(file))
  .map((file) => readFileSync(join(native, file), 'utf8'))
  .join('\n');

/** Words that tables have as keys of another kind: protocols, and what is left out of counting. */
const NO_REASONS = [...protocolModules.map(({ name }) => name), 'http2', 'other'];

function words(): Set<string> {
  return new Set(tables.flatMap(({ reasons }) => Object.keys(reasons)));
}

test('the page of reasons is the one that is printed; WIRESPAN_UPDATE=1 prints it', () => {
  const file = fileURLToPath(new URL('../../../docs/reference/reasons.md', import.meta.url));
  if (process.env.WIRESPAN_UPDATE === '1') writeFileSync(file, reasonsPage(tables));
  assert.equal(readFileSync(file, 'utf8'), reasonsPage(tables));
});

test('every word that is counted by its name is in the table', () => {
  const known = words();
  const missing = new Set<string>();
  for (const [file, text] of files) {
    for (const [, call] of text.matchAll(/\bcount\(([^;]*?)\);/g)) {
      for (const [, word] of call!.matchAll(/[,?:] *'([a-z0-9_]+)'/g)) {
        if (!known.has(word!) && !NO_REASONS.includes(word!)) missing.add(`${file}: ${word}`);
      }
    }
  }
  assert.deepEqual([...missing], []);
});

test('every member of a closed set of reasons is in the table', () => {
  const known = words();
  const sets = [
    ['tls/reasons.ts', 'UndecryptableReason'],
    ['flow/connection.ts', 'EndReason'],
    ['protocol/detect.ts', 'UnrecognisedReason'],
    ['protocol/proxy/header.ts', 'HeaderFault'],
    ['exchange/exchange.ts', 'IncompleteReason'],
    ['packet/decode.ts', 'DecodeResult'],
  ] as const;
  for (const [file, name] of sets) {
    const text = files.find(([path]) => path === file)![1];
    const union = new RegExp(`export type ${name} =([\\s\\S]*?);`).exec(text)![1]!;
    const members = [...union.matchAll(/^ *\| '(\w+)'/gm)].map((match) => match[1]!);
    assert.ok(members.length > 1, name);
    assert.deepEqual(
      members.filter((member) => member !== 'ok' && !known.has(member)),
      [],
      name,
    );
  }
});

test('every loss that the kernel’s programs and the addon count is in the table', () => {
  const known = words();
  const capture = files.find(([path]) => path === 'capture/live.ts')![1];
  const list = /const LOSS_REASONS = \[([\s\S]*?)\]/.exec(capture)![1]!;
  const losses = [
    ...[...list.matchAll(/'(\w+)'/g)].map((match) => match[1]!),
    ...[...addon.matchAll(/\blost\.Set\("(\w+)"/g)].map((match) => match[1]!),
  ];
  assert.ok(losses.length > 8);
  assert.deepEqual(
    losses.filter((loss) => !known.has(loss)),
    [],
  );
});

test('every word of the table is one that the code has', () => {
  const text = [...files.map(([, content]) => content), addon].join('\n');
  const composed = /^(?:exports_|key_log_line_)/;
  const unused = [...words()].filter((word) => !composed.test(word) && !new RegExp(`\\b${word}\\b`).test(text));
  assert.deepEqual(unused, []);
});
