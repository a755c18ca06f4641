import assert from 'node:assert/strict';
import { execFileSync } from 'node:child_process';
import { existsSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { describe, it } from 'node:test';
import { fileURLToPath } from 'node:url';

/** Words over which a native reader stumbles, and what to write instead. */
const FORBIDDEN: readonly (readonly [RegExp, string])[] = [
  [/\bwhoever\b/gi, 'name the person or the program'],
  [/\banew\b/gi, 'again'],
  [/\btold\b(?! apart)/gi, 'reported, logged, exposed, known'],
  [/\btells? of\b/gi, 'report, describe'],
  [/(?<!order )\bof (?:no )?use\b/gi, 'needed, useful'],
  [/\ball the same\b/gi, 'nevertheless'],
  [/\bnobody's\b/gi, 'name what it does not belong to'],
  [/\bmakes? nothing be\b/gi, 'name the subject'],
];

const root = fileURLToPath(new URL('../..', import.meta.url));
const files = execFileSync('git', ['ls-files', '-z', '--cached', '--others', '--exclude-standard'], {
  cwd: root,
  encoding: 'utf8',
})
  .split('\0')
  .filter((file) => file !== '' && existsSync(join(root, file)));

/** @returns the text of a file that people read: of sources the comments and the strings */
function prose(file: string): string {
  const text = readFileSync(join(root, file), 'utf8');
  if (!/\.(?:ts|mjs|c|cc|h)$/.test(file)) return text;
  const parts = text.matchAll(/\/\*[\s\S]*?\*\/|(?<![:'"`\w])\/\/.*$|'(?:[^'\\\n]|\\.)*'|`(?:[^`\\]|\\.)*`/gm);
  return [...parts].map(([part]) => part.replace(/\$\{[^}]*\}/g, '')).join('\n');
}

function found(text: string): string[] {
  return FORBIDDEN.flatMap(([pattern, instead]) =>
    [...text.matchAll(pattern)].map(([word]) => `${word} (rather: ${instead})`),
  );
}

describe('wording', () => {
  it('documents, comments and messages are written in plain English', () => {
    const read = files.filter(
      (file) =>
        /^(?:src|native|bpf)\/.*\.(?:ts|mjs|c|cc|h)$/.test(file) ||
        /^(?:docs|charts|collector-config)\/.*\.(?:md|ya?ml|tpl|txt|mjs)$/.test(file) ||
        /^[A-Z]+\.md$/.test(file),
    );
    assert.ok(read.length > 300);
    const wrong = read.flatMap((file) => found(prose(file)).map((what) => `${file}: ${what}`));
    assert.deepEqual(wrong, []);
  });

  it('this test sees what it is there for', () => {
    assert.deepEqual(found('The agent begins anew.').length, 1);
    assert.deepEqual(found('Two results that cannot be told apart.'), []);
  });
});
