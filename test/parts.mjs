/** The parts of the test suite: where their files lie, what they need, how they are run. */
import * as packages from '../native/setup/packages.mjs';

/** @typedef {{name: string, live?: boolean, needs?: packages.Need[], checks?: [string, string[]][], folders?: string[], serial?: boolean,
 * fileMinutes?: number}} Part fileMinutes: a file that takes longer
 * has failed */

/** @type {Part[]} */
export const PARTS = [
  {
    name: 'lint',
    checks: [
      ['biome', ['node_modules/@biomejs/biome/bin/biome', 'check', '--error-on-warnings', '--max-diagnostics=100']],
      ['clang-format', ['native/format.mjs', '--check']],
      ['types of the sources', ['node_modules/typescript/bin/tsc', '--noEmit', '-p', '.']],
      ['types of the tests', ['node_modules/typescript/bin/tsc', '--noEmit', '-p', 'test']],
    ],
  },
  { name: 'unit', needs: packages.TEST, folders: ['test/unit', 'test/golden', 'test/property'] },
  { name: 'captures', needs: packages.TEST, folders: ['test/captures'] },
  // The live tests watch the whole machine: one at a time.
  {
    name: 'live',
    live: true,
    needs: [...packages.TEST, ...packages.LIVE],
    folders: ['test/e2e'],
    serial: true,
    fileMinutes: 10,
  },
  // Machines of their own, whose clocks are slow anyway.
  {
    name: 'kernels',
    live: true,
    needs: packages.KERNELS,
    folders: ['test/kernels'],
    serial: true,
    fileMinutes: 20,
  },
];
