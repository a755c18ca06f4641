import { accessSync, constants, readFileSync } from 'node:fs';
import { fileURLToPath } from 'node:url';
import type { DoctorOptions } from '../cli/options.ts';
import * as providers from '../secrets/providers.ts';
import { watchedProcesses } from './processes-watched.ts';
import { readingChecks } from './reading.ts';
import { type Check, canRun, type Report, toJson, toText } from './report.ts';
import { checkSystem } from './system.ts';

const BUILD_REMEDY = 'build it (npm start does), or install the package, which carries it';

/**
 * Prints what can be seen on this machine and what cannot, and why.
 *
 * @returns the exit status: 1 when the agent could not run
 */
export async function runDoctor(options: DoctorOptions): Promise<number> {
  const { report, hangs } = await examine();
  const code = canRun(report) ? 0 : 1;
  process.stdout.on('error', () => {});
  const text = options.json ? toJson(report) : toText(report, wantsColour());
  await new Promise<void>((resolve) => process.stdout.write(text, () => resolve()));
  if (hangs) {
    const { exitAtOnce } = await import('../capture/native.ts');
    exitAtOnce(code);
  }
  return code;
}

async function examine(): Promise<{ report: Report; hangs: boolean }> {
  const system = checkSystem();
  const files = await checkFiles();
  const built = files.every((check) => check.state === 'ok');
  const features = built ? await checkFeatures() : [];
  const { processes, counts, hangs } = await watchedProcesses();
  const checks = [...system, ...files, ...features, ...readingChecks(counts)];
  return { report: { version: packageVersion(), checks, processes }, hangs };
}

/** The addon and the BPF objects of this installation. */
async function checkFiles(): Promise<Check[]> {
  const group = 'Files';
  const checks: Check[] = [];
  try {
    const { native } = await import('../capture/native.ts');
    native();
    checks.push({ group, name: 'native addon', state: 'ok', detail: 'loads' });
  } catch (error) {
    checks.push({ group, name: 'native addon', state: 'no', detail: (error as Error).message, remedy: BUILD_REMEDY });
  }
  for (const name of ['capture.bpf.o', ...Object.values(providers).map(({ name }) => `${name}.bpf.o`)]) {
    const path = fileURLToPath(new URL(`../../dist/bpf/${name}`, import.meta.url));
    try {
      accessSync(path, constants.R_OK);
      checks.push({ group, name, state: 'ok', detail: path });
    } catch {
      checks.push({ group, name, state: 'no', detail: `${path} cannot be read`, remedy: BUILD_REMEDY });
    }
  }
  return checks;
}

/** Only with the addon at hand: it is what tries the kernel's features. */
async function checkFeatures(): Promise<Check[]> {
  const { checkKernel } = await import('./kernel.ts');
  return checkKernel();
}

function wantsColour(): boolean {
  return process.stdout.isTTY === true && (process.env.NO_COLOR ?? '') === '' && process.env.TERM !== 'dumb';
}

function packageVersion(): string {
  const description: unknown = JSON.parse(readFileSync(new URL('../../package.json', import.meta.url), 'utf8'));
  return String((description as { version?: unknown }).version);
}
