#!/usr/bin/env node
/**
 * `npm run test:sanitized [-- FILE...]`: the tests that use the addon, with an addon that AddressSanitizer and UndefinedBehaviorSanitizer
 * watch. In a copy of the tree, so that what is built for use stays as it is. Files below test/e2e need root. Any report fails.
 */
import { execFileSync, spawnSync } from 'node:child_process';
import { cpSync, mkdtempSync, rmSync, symlinkSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { environmentOf } from '../native/setup/build.mjs';
import { root } from '../native/setup/common.mjs';
import * as packages from '../native/setup/packages.mjs';
import { prepare } from '../native/setup/prepare.mjs';

const UNIT = ['handshakes', 'hostile', 'rfc8448', 'secrets', 'suites'].map((name) => `test/unit/tls/${name}.test.ts`);
const LIVE = ['capture', 'secrets'].map((name) => `test/e2e/${name}.test.ts`);
const isRoot = process.getuid?.() === 0;
const given = process.argv.slice(2);
const files = given.length > 0 ? given : [...UNIT, ...(isRoot ? LIVE : [])];

const node = prepare({ needs: [...packages.TEST, ...(isRoot ? packages.LIVE : [])], purpose: 'run the tests' });
const copy = mkdtempSync(join(tmpdir(), 'wirespan-sanitized-'));
let ok = false;
try {
  for (const name of ['bpf', 'native', 'src', 'test', 'dist', 'package.json', 'tsconfig.json']) {
    cpSync(join(root, name), join(copy, name), { recursive: true });
  }
  symlinkSync(join(root, 'node_modules'), join(copy, 'node_modules'));
  execFileSync(node, [join(copy, 'native/build.mjs'), '--sanitize'], { stdio: 'inherit' });
  const library = (name) => execFileSync('g++', [`-print-file-name=${name}`], { encoding: 'utf8' }).trim();
  const env = {
    ...environmentOf(node),
    LD_PRELOAD: [library('libasan.so'), library('libubsan.so')].join(' '),
    // Node and V8 are not built for them; what they leak at their end is theirs.
    ASAN_OPTIONS: 'detect_leaks=0:abort_on_error=0:exitcode=99',
    UBSAN_OPTIONS: 'halt_on_error=1:print_stacktrace=1:exitcode=99',
  };
  // Not by --test: the tests' own children, such as curl, must not inherit the libraries.
  const alone = 'data:text/javascript,delete process.env.LD_PRELOAD';
  const failed = files.filter((file) => {
    process.stdout.write(`== ${file}\n`);
    return spawnSync(node, [`--import=${alone}`, file], { cwd: copy, env, stdio: 'inherit' }).status !== 0;
  });
  ok = failed.length === 0;
  process.stdout.write(ok ? 'no report\n' : `failed: ${failed.join(' ')}\n`);
} finally {
  rmSync(copy, { recursive: true, force: true });
}
process.exitCode = ok ? 0 : 1;
