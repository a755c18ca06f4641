/** What the agent and replay build alike: everything between a source of records and the outputs. */
import { readFileSync } from 'node:fs';
import type { CommonOptions } from './cli/options.ts';
import { findMemoryLimit, memoryBudgetBytes } from './config/memory-limit.ts';
import { createOutputs } from './export/create.ts';
import { Feed } from './export/feed.ts';
import type { WhyBroken } from './export/line-writer.ts';
import type { Output } from './export/output.ts';
import { Views } from './export/views.ts';
import { MemoryBudget } from './memory/budget.ts';
import { Pipeline, type PipelineOptions } from './pipeline.ts';
import { type AllLimits, createProtocols, protocolMappings, protocolViewers } from './protocol/registry.ts';
import { SecretStore } from './secrets/store.ts';
import { Durations, type Perspective, SpanBuilder, type SpanBuilderOptions } from './span/builder.ts';
import { type Counters, newCounters } from './telemetry/counters.ts';
import { Log } from './telemetry/log.ts';

export interface Assembly {
  readonly log: Log;
  readonly counters: Counters;
  readonly secrets: SecretStore;
  readonly outputs: readonly Output[];
  readonly pipeline: Pipeline;
  readonly durations: Durations | undefined;
  readonly memory: MemoryBudget;
  readonly feed: Feed;
}

export interface AssemblyParts {
  readonly limits: AllLimits;
  readonly perspective: Perspective;
  readonly log: Log;
  readonly counters?: Counters;
  /** Durations are exposed or pushed. */
  readonly measures?: boolean;
  /** No output can write any more. */
  readonly onBroken: (why: WhyBroken) => void;
  readonly spans: Pick<SpanBuilderOptions, 'resources' | 'peers' | 'clock' | 'idSalt' | 'unknownNames'>;
  readonly pipeline: Pick<PipelineOptions, 'observers' | 'pcapng' | 'mute' | 'waiting' | 'explainMissingSecret'>;
}

export function createLog(options: CommonOptions): Log {
  const { level, format } = options.config.log;
  return new Log({ level, format: format === 'auto' ? (process.stderr.isTTY ? 'text' : 'json') : format });
}

/** @throws Error that says which output cannot be opened */
export async function assemble(options: CommonOptions, parts: AssemblyParts): Promise<Assembly> {
  const { config } = options;
  const { log, limits } = parts;
  const counters = parts.counters ?? newCounters();
  const secrets = new SecretStore(limits, counters);
  const memory = new MemoryBudget(memoryBudgetBytes(limits.memoryMib, findMemoryLimit()), counters.memory);
  const outputs = await createOutputs(config.outputs, {
    counters,
    log,
    version: packageVersion(),
    environment: process.env,
    config,
    onBroken: parts.onBroken,
  });
  const { exponential, exemplars } = config.metrics;
  const durations = parts.measures ? new Durations({ limits, exponential, exemplars, counters }) : undefined;
  const feed = new Feed(counters.feed);
  const pipeline = new Pipeline({
    ...parts.pipeline,
    onInternalError: (error) =>
      log.error('an error of wirespan itself was caught; please report it', { at: placeOf(error) }),
    limits,
    counters,
    memory,
    secrets,
    outputs,
    views: new Views({ ...parts.spans, viewers: protocolViewers, config }),
    feed,
    protocols: createProtocols({ config, limits, counters, memory }),
    spans: new SpanBuilder({
      mappings: protocolMappings,
      ...parts.spans,
      perspective: parts.perspective,
      counters,
      durations,
      config,
      sampling: config.sampling,
      filters: config.filters,
      avoidInstrumented: config.services.avoidInstrumented,
      limits,
      memory,
    }),
  });
  return { log, counters, secrets, outputs, pipeline, durations, memory, feed };
}

/** Where an error was thrown. Not what it says: that may quote what was captured. */
function placeOf(error: unknown): string {
  if (!(error instanceof Error)) return typeof error;
  const frames = (error.stack ?? '').split('\n').filter((line) => /^ +at /.test(line));
  return [error.name, ...frames.slice(0, 4).map((line) => line.trim())].join(' ');
}

/** Ends every output within the deadline, all at once. */
export async function shutdownOutputs(outputs: readonly Output[], deadlineMs: number): Promise<void> {
  await Promise.all(outputs.map((output) => output.shutdown(deadlineMs)));
}

export function packageVersion(): string {
  const description: unknown = JSON.parse(readFileSync(new URL('../package.json', import.meta.url), 'utf8'));
  return String((description as { version?: unknown }).version);
}
