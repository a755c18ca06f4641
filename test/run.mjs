#!/usr/bin/env node
/**
 * `npm test [-- PART...]`: set-up, then the parts of the test suite (all of them when none is named), the slowest files, and the totals in
 * the last line. Plain JavaScript: it starts on the machine's own Node and runs everything with the right one.
 *
 * The parts run one after the other: guests beside other tests took longer than both in turn, and came too late.
 *
 * WIRESPAN_SKIP_LIVE=1 leaves out what needs root and a kernel that can be watched; the last line says how much that was.
 *
 * Live tests run against the clock of a machine that may stand still for others. A file of them that fails is run once more, alone; one that
 * passes then is named at the end and in test/unsteady.txt, to be looked into. WIRESPAN_TEST_TRIES=1 takes the first result.
 */
import { spawnSync } from 'node:child_process';
import { mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { availableParallelism, tmpdir } from 'node:os';
import { join, relative } from 'node:path';
import { environmentOf } from '../native/setup/build.mjs';
import { cacheFolder, root } from '../native/setup/common.mjs';
import { prepare } from '../native/setup/prepare.mjs';
import { PARTS } from './parts.mjs';

/** @typedef {import('./parts.mjs').Part} Part */

/** @param {Part} part */
function testFiles(part) {
  return (part.folders ?? []).flatMap((folder) => {
    try {
      return readdirSync(join(root, folder), { recursive: true })
        .filter((name) => name.endsWith('.test.ts'))
        .map((name) => `${folder}/${name}`)
        .sort();
    } catch {
      return [];
    }
  });
}

const given = process.argv.slice(2);
const unknown = given.filter((name) => !PARTS.some((part) => part.name === name));
if (unknown.length > 0) {
  process.stderr.write(`unknown part: ${unknown.join(' ')}; there are ${PARTS.map((part) => part.name).join(' ')}\n`);
  process.exit(2);
}
const chosen = PARTS.filter((part) => given.length === 0 || given.includes(part.name));
const skipLive = process.env.WIRESPAN_SKIP_LIVE === '1';
const parts = chosen.filter((part) => !(part.live && skipLive));
const leftOut = chosen.filter((part) => part.live && skipLive).flatMap(testFiles);

if (parts.some((part) => part.live) && process.getuid?.() !== 0) {
  process.stderr.write('the live tests need root: run as root, or leave them out with WIRESPAN_SKIP_LIVE=1\n');
  process.exit(1);
}

const needs = [...new Set(parts.flatMap((part) => part.needs ?? []))];
const node = prepare({ needs, purpose: 'run the tests' });
const env = environmentOf(node);
// Programs of the system (nginx, bpftool) are called by their names; a user's PATH may lack their folders.
env.PATH = `${env.PATH}:/usr/local/sbin:/usr/sbin:/sbin`;
const work = mkdtempSync(join(tmpdir(), 'wirespan-run-'));
const totals = { passed: 0, failed: 0, skipped: 0 };
const failures = [];
const tries = Number(process.env.WIRESPAN_TEST_TRIES ?? 2);
/** More than these do not fail by chance. */
const SECOND_TRY_FILES = 3;
/** Files that passed only then. */
const unsteady = [];
/** What took how long: files by their names, in milliseconds. */
const durations = new Map();
const SLOWEST_FILES = 15;
/** Node compiles a source once for all test files that import it. Live tests do without: the agent under test would write there. */
const compiled = { NODE_COMPILE_CACHE: join(cacheFolder, 'compiled') };

function heading(text) {
  process.stdout.write(`\n== ${text}\n`);
}

/** @param {string[]} args @param {NodeJS.ProcessEnv} [more] of the environment */
function execute(args, more = {}) {
  return (
    spawnSync(node, args, { cwd: root, env: { ...env, ...more }, stdio: ['ignore', 'inherit', 'inherit'] }).status === 0
  );
}

/**
 * @param {Part} part
 * @param {string[]} files
 * @returns {{args: string[], more: NodeJS.ProcessEnv, totalsFile: string}} how a part's files are run
 */
function invocation(part, files) {
  const totalsFile = join(work, `${part.name}.json`);
  const minutes = part.fileMinutes ?? 3;
  const args = [
    ...['--test', `--test-timeout=${minutes * 60_000}`, '--import=./test/support/runner/deadline.mjs'],
    `--test-concurrency=${part.serial ? 1 : availableParallelism()}`,
    ...['--test-reporter=spec', '--test-reporter-destination=stdout'],
    ...['--test-reporter=./test/support/runner/totals-reporter.mjs', `--test-reporter-destination=${totalsFile}`],
    ...files,
  ];
  return { args, more: { WIRESPAN_TEST_FILE_MINUTES: String(minutes), ...(part.live ? {} : compiled) }, totalsFile };
}

/**
 * @param {string[]} files that were run
 * @param {string} totalsFile
 * @param {boolean} ok whether the run ended well
 * @returns {{passed: number, failed: number, skipped: number, failedFiles: string[]}}
 */
function outcome(files, totalsFile, ok) {
  const line = readFileSync(totalsFile, 'utf8').trim();
  // A run that was cut short has no totals: that is a failure too, of any of them.
  if (line === '') return { passed: 0, failed: 1, skipped: 0, failedFiles: files };
  const { passed, failed, cancelled, skipped, todo, failedFiles, durations: ofFiles } = JSON.parse(line);
  for (const [file, ms] of Object.entries(ofFiles)) durations.set(relative(root, file), ms);
  return {
    passed,
    failed: failed + cancelled === 0 && !ok ? 1 : failed + cancelled,
    skipped: skipped + todo,
    failedFiles: failedFiles.map((/** @type {string} */ file) => relative(root, file)),
  };
}

/** @param {Part} part @param {string[]} files */
function runFiles(part, files) {
  const { args, more, totalsFile } = invocation(part, files);
  return outcome(files, totalsFile, execute(args, more));
}

/** @param {Part} part */
function runTests(part) {
  const files = testFiles(part);
  heading(`${part.name}: ${files.length} files`);
  if (files.length === 0) {
    process.stdout.write(`no test file in ${part.folders?.join(', ')}\n`);
    totals.failed += 1;
    failures.push(part.name);
    return;
  }
  count(part, runFiles(part, files));
}

/** @param {Part} part @param {ReturnType<typeof outcome>} result */
function count(part, { passed, failed, skipped, failedFiles }) {
  totals.passed += passed;
  totals.skipped += skipped;
  if (failed === 0) return;
  const again = part.live && tries > 1 && failedFiles.length > 0 && failedFiles.length <= SECOND_TRY_FILES;
  const left = again ? secondTry(part, failedFiles, failed) : failed;
  totals.failed += left;
  if (left > 0) failures.push(part.name);
}

/**
 * @param {Part} part
 * @param {string[]} files in which something failed
 * @param {number} failed how many tests that were
 * @returns {number} how many tests fail still; the others count as passed
 */
function secondTry(part, files, failed) {
  heading(`${part.name}, once more: ${files.join(', ')}`);
  const again = runFiles(part, files);
  unsteady.push(...files.filter((file) => !again.failedFiles.includes(file)));
  if (again.failed > 0) return again.failed;
  totals.passed += failed;
  return 0;
}

/** The list of the last run of all live tests, a file per line. */
function recordUnsteady() {
  const list = join(root, 'test/unsteady.txt');
  const text = unsteady.map((file) => `${file}\n`).join('');
  if (readFileSync(list, 'utf8') !== text) writeFileSync(list, text);
}

/** The files that took longest, and the parts. @param {Map<string, number>} ofParts */
function printTimes(ofParts) {
  const seconds = (/** @type {number} */ ms) => `${(ms / 1000).toFixed(1).padStart(8)} s`;
  const slowest = [...durations].sort(([, a], [, b]) => b - a).slice(0, SLOWEST_FILES);
  if (slowest.length > 0) heading('the slowest files');
  for (const [file, ms] of slowest) process.stdout.write(`${seconds(ms)}  ${file}\n`);
  heading('time');
  for (const [name, ms] of ofParts) process.stdout.write(`${seconds(ms)}  ${name}\n`);
}

/** @type {Map<string, number>} */
const ofParts = new Map();
const begunMs = performance.now();
for (const part of parts) {
  const startMs = performance.now();
  for (const [what, args] of part.checks ?? []) {
    heading(`${part.name}: ${what}`);
    if (execute(args)) {
      totals.passed += 1;
    } else {
      totals.failed += 1;
      failures.push(`${part.name} (${what})`);
    }
  }
  if (part.folders) runTests(part);
  ofParts.set(part.name, performance.now() - startMs);
}
ofParts.set('all', performance.now() - begunMs);
rmSync(work, { recursive: true, force: true });
if (parts.some((part) => part.name === 'live')) recordUnsteady();

printTimes(ofParts);
process.stdout.write('\n');
if (unsteady.length > 0) process.stdout.write(`passed only when run once more: ${unsteady.join(', ')}\n`);
if (failures.length > 0) process.stdout.write(`failed: ${failures.join(', ')}\n`);
if (leftOut.length > 0)
  process.stdout.write(`left out by WIRESPAN_SKIP_LIVE=1: ${leftOut.length} files of live tests\n`);
const skipped = totals.skipped + leftOut.length;
process.stdout.write(`${totals.passed} passed, ${totals.failed} failed${skipped > 0 ? `, ${skipped} skipped` : ''}\n`);
process.exitCode = totals.failed > 0 ? 1 : 0;
