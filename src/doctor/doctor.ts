import { accessSync, constants, readFileSync } from 'node:fs';
import { fileURLToPath } from 'node:url';
import type { DoctorOptions } from '../cli/options.ts';
import { checkProcesses } from './processes.ts';
import { type Check, canRun, type Report, toJson, toText } from './report.ts';
import { checkSystem } from './system.ts';

const BUILD_REMEDY = 'build it (npm start does), or install the package, which carries it';

/**
 * Prints what can be seen on this machine and what cannot, and why.
 *
 * @returns the exit status: 1 when the agent could not run
 */
export async function runDoctor(options: DoctorOptions): Promise<number> {
  const report = await examine();
  process.stdout.on('error', () => {});
  process.stdout.write(options.json ? toJson(report) : toText(report, wantsColour()));
  return canRun(report) ? 0 : 1;
}

async function examine(): Promise<Report> {
  const system = checkSystem();
  const files = await checkFiles();
  const built = files.every((check) => check.state === 'ok');
  return {
    version: packageVersion(),
    checks: [...system, ...files, ...(built ? await checkFeatures() : [])],
    processes: checkProcesses(),
  };
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
  for (const name of ['capture.bpf.o', 'secrets.bpf.o']) {
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
