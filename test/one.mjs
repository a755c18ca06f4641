#!/usr/bin/env node
/**
 * `npm run test:one -- FILE [PATTERN]`: set-up, then one test file, or the tests in it whose names match a pattern. Plain JavaScript: it
 * starts on the machine's own Node and runs the file with the right one.
 *
 * A file of test/unit, test/golden or test/property needs neither root nor, unless it uses the addon, a compiler.
 */
import { spawnSync } from 'node:child_process';
import { existsSync } from 'node:fs';
import { relative, resolve } from 'node:path';
import { environmentOf } from '../native/setup/build.mjs';
import { root } from '../native/setup/common.mjs';
import { prepare } from '../native/setup/prepare.mjs';
import { PARTS } from './parts.mjs';

function wrongUsage(message) {
  process.stderr.write(`${message}\nusage: npm run test:one -- FILE [PATTERN]\n`);
  process.exit(2);
}

const [given, pattern, ...rest] = process.argv.slice(2);
if (given === undefined || rest.length > 0) wrongUsage('one test file is needed, and at most one pattern');
const file = relative(root, resolve(given));
if (!existsSync(resolve(root, file))) wrongUsage(`there is no file ${given}`);
const part = PARTS.find(({ folders = [] }) => folders.some((folder) => file.startsWith(`${folder}/`)));
if (part === undefined || !file.endsWith('.test.ts')) {
  const folders = PARTS.flatMap((each) => each.folders ?? []).join(', ');
  wrongUsage(`${given} is no test file: they end in .test.ts and lie in ${folders}`);
}
if (part.live && process.getuid?.() !== 0) {
  process.stderr.write(`${file} is a live test: run it as root\n`);
  process.exit(1);
}

const isFast = part.name === 'unit';
const node = prepare({ needs: isFast ? [] : part.needs, purpose: 'run the tests', addonIsOptional: isFast });
const env = environmentOf(node);
env.PATH = `${env.PATH}:/usr/local/sbin:/usr/sbin:/sbin`;
const { status } = spawnSync(
  node,
  [
    ...['--test', '--test-reporter=spec', '--import=./test/support/runner/deadline.mjs'],
    `--test-timeout=${(part.fileMinutes ?? 3) * 60_000}`,
    ...(pattern === undefined ? [] : [`--test-name-pattern=${pattern}`]),
    file,
  ],
  { cwd: root, env: { ...env, WIRESPAN_TEST_FILE_MINUTES: String(part.fileMinutes ?? 3) }, stdio: 'inherit' },
);
process.exitCode = status ?? 1;
