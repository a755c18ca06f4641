#!/usr/bin/env -S node --max-semi-space-size=8
import { readFileSync } from 'node:fs';
import { type Invocation, type PipelineArguments, parseArguments, UsageError } from './cli/arguments.ts';
import { helpText } from './cli/help.ts';
import type { CommonOptions } from './cli/options.ts';

/*
 * The command line. Commands are imported when they are needed: help and version load neither OpenTelemetry nor the addon.
 *
 * V8 lets young objects take 64 MiB on a machine with much memory. Where connections come and go by the thousand that is all that they take:
 * with 16 MiB the agent is 100 MB smaller and costs the same [measured at 1,300 new TLS connections per second].
 */

const DONE = 0;
const FAILED = 1;
const WRONG_USAGE = 2;

/** After the command has returned, what still keeps the event loop alive, such as a request that nobody answers, is given this long. */
const EXIT_GRACE_MS = 200;

async function main(words: readonly string[]): Promise<number> {
  let invocation: Invocation;
  try {
    invocation = parseArguments(words);
  } catch (error) {
    if (error instanceof UsageError) return wrongUsage(error);
    throw error;
  }
  try {
    return await run(invocation);
  } catch (error) {
    if ((error as Error).name === 'ConfigError') {
      complain((error as Error).message);
      return WRONG_USAGE;
    }
    complain(describeFailure(error));
    return FAILED;
  }
}

/** @throws Error on a Node that lacks what is used here, instead of one from somewhere inside */
function checkNode(): void {
  const [major = 0, minor = 0] = process.versions.node.split('.').map(Number);
  if (major > 22 || (major === 22 && minor >= 19)) return;
  throw new Error(
    `Node 22.19 or newer is needed, this is ${process.version}; in a checkout, npm start brings the right one`,
  );
}

async function run(invocation: Invocation): Promise<number> {
  if (invocation.kind !== 'help' && invocation.kind !== 'version') checkNode();
  switch (invocation.kind) {
    case 'help':
      return help(invocation.asked, helpText(invocation.command));
    case 'version':
      return print(`wirespan ${packageVersion()}\n`);
    case 'agent': {
      const options = await commonOptions(invocation.options);
      const { runAgent } = await import('./agent.ts');
      return await runAgent(options);
    }
    case 'replay': {
      const options = await commonOptions(invocation.options);
      const { runReplay } = await import('./replay.ts');
      return await runReplay({ ...options, files: invocation.files });
    }
    case 'doctor': {
      const { runDoctor } = await import('./doctor/doctor.ts');
      return await runDoctor({ json: invocation.json });
    }
  }
}

async function commonOptions(options: PipelineArguments): Promise<CommonOptions> {
  const { mergeConfiguration } = await import('./cli/configuration.ts');
  return {
    config: mergeConfiguration(options, process.env, complain),
    keylogFile: options.keylog,
    statsTarget: options.stats,
    pcapngFile: options.pcapng,
    perspective: options.perspective,
  };
}

function help(asked: boolean, text: string): number {
  if (asked) return print(text);
  process.stderr.write(text);
  return WRONG_USAGE;
}

function print(text: string): number {
  // The reader may stop early (`wirespan --help | head -1`).
  process.stdout.on('error', () => {});
  process.stdout.write(text);
  return DONE;
}

function wrongUsage(error: UsageError): number {
  const command = error.command === undefined ? 'wirespan' : `wirespan ${error.command}`;
  process.stderr.write(`${command}: ${error.message}\nRead ${command} --help.\n`);
  return WRONG_USAGE;
}

function complain(message: string): void {
  for (const line of message.split('\n')) process.stderr.write(`wirespan: ${line}\n`);
}

/** The message and those of its causes; the stack of an error that is our own fault. */
function describeFailure(error: unknown): string {
  if (!(error instanceof Error)) return String(error);
  const isBug = error instanceof TypeError || error instanceof ReferenceError || error instanceof RangeError;
  const message = isBug ? (error.stack ?? error.message) : error.message;
  return error.cause === undefined ? message : `${message}\n  because: ${describeFailure(error.cause)}`;
}

function packageVersion(): string {
  const description: unknown = JSON.parse(readFileSync(new URL('../package.json', import.meta.url), 'utf8'));
  return String((description as { version?: unknown }).version);
}

process.exitCode = await main(process.argv.slice(2));
setTimeout(() => process.exit(), EXIT_GRACE_MS).unref();
