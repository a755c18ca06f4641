import { z } from 'zod';
import {
  type AllLimits,
  defaultAllLimits,
  type ModuleSections,
  moduleLimits,
  moduleSections,
} from '../protocol/registry.ts';
import { type CamelCased, camelKey, type SnakeCase, snakeKey } from './case.ts';
import { whole } from './define.ts';
import { kubernetesShape } from './kubernetes.ts';
import type { Limits } from './limits.ts';
import { parseListenAddress, tokenPattern } from './listen.ts';
import { otlpCopies, otlpShape } from './otlp.ts';
import { isOutput, outputConflict, outputForms } from './outputs.ts';
import { filtersShape, samplingShape, servicesShape } from './selection.ts';

/**
 * The configuration file: its keys, their types, defaults and meaning. The one place; docs/reference/configuration.md is printed from
 * it. Keys end in their unit.
 */

export const logLevels = ['error', 'warn', 'info', 'debug'] as const;
export const logFormats = ['auto', 'text', 'json'] as const;

const MAX_LIST_ENTRIES = 1000;

const limitDescriptions: Partial<Record<keyof Limits, string>> = {
  memoryMib:
    'Memory for all that grows with what is seen, in MiB: what waits of connections, requests and statements, caches, spans that wait for export. When it is full, the connection or cache that holds the most is given up, and counted. 0: a quarter of the memory limit of the control group, 256 without one.',
  connections: 'TCP connections tracked at once; the one idle for longest makes room.',
  reassemblyBytesPerDirection: 'Out-of-order bytes held per direction before a hole is given up as a gap.',
  reassemblyBytes: 'Out-of-order bytes held by all connections together.',
  reassemblyPiecesPerDirection: 'Out-of-order pieces held per direction, however small.',
  reassemblyWindowBytes: 'How far ahead of the stream a segment may lie; what lies further is not of this connection.',
  lingerUs:
    'A closed connection is remembered for this time, so that late copies of its packets do not open a new one.',
  lingeringConnections: 'Closed connections that are remembered.',
  ipFragmentBytes: 'IP fragments of capture files that wait for the rest of their packet: bytes in all.',
  ipFragmentUs: 'How long an IP fragment waits for the rest of its packet.',
  reassemblyHoleUs: 'A hole in a stream is given up after this time.',
  reassemblyRetransmitUs: 'The same of a hole that the receiver has, too, as its acknowledgements say.',
  reassemblyReorderUs:
    'An acknowledgement that stands in a capture file before the data that it speaks of waits for them so long.',
  reassemblyReorderPackets: 'Packets of one connection that wait so.',
  reassemblyReorderBytes: 'Bytes of one connection that wait so.',
  resetDoubtUs: 'A reset that the receiver may have refused counts when nothing follows for this time.',
  clientClosedUs: 'A connection that its client has closed for its part ends after this time without packets.',
  serverClosedUs: 'A connection that its server has closed for its part ends after this time without packets.',
  idleUs: 'A connection without packets is forgotten after this time.',
  unusedUs: 'The same for one that has carried no data yet.',
  tlsPendingBytesPerConnection: 'Bytes of TLS records of one connection that wait for its secret.',
  tlsPendingBytes: 'Bytes of TLS records of all connections that wait for a secret.',
  tlsPendingUs: 'How long TLS records wait for their secret.',
  tlsHandshakeMessageBytes: 'Bytes of one TLS handshake message.',
  tlsGapTrials: 'TLS record numbers tried after a gap.',
  detectionBytes: 'Bytes held per direction while the protocol is not known.',
  proxyHeaders: 'Headers of the PROXY protocol in a row before a connection; what follows is read as it is.',
  detectionTries:
    'Messages looked at, of a connection whose start was not seen, before its protocol counts as unknown.',
  pcapngReorderUs: 'Packets wait so long for the packet file, to be put in the order of time.',
  pcapngPendingUs: 'Packets of a connection that lacks its secret wait so long for the packet file.',
  pcapngPendingBytes: 'Bytes of such packets of all connections.',
  pcapngQueueBytes: 'Bytes of the packet file that wait for the disk.',
  metricSeries:
    'Series of the durations of exchanges (`metrics`), in all. What is beyond counts in one series per metric, with `otel.metric.overflow`.',
  metricIdleUs: 'A series that has not grown for this time is no longer exposed.',
  probeFiles: 'Files looked into for TLS libraries.',
  probeAttachments: 'Files that are probed.',
  probeProcesses: 'Processes whose files are known.',
  probeQueue: 'New processes that wait to be looked at again.',
  probeReadsPerSecond: 'Looks at processes per second.',
  secrets: 'TLS secrets kept for connections that were not seen yet.',
  secretUs: 'How long such a secret is kept.',
  sampledServices: 'Services whose rate is known, for `sampling.spans_per_second`.',
  instrumentedProcesses: 'Processes that are known to export telemetry of their own.',
  learnedServices: 'Services whose routes are learned.',
  learnedSegments: 'Path segments that are remembered of one service.',
  learnedSegmentsPerPlace: 'Different segments at one place of a path; with more the place is a parameter.',
  workloadProcesses: 'Processes whose identity is remembered.',
  workloadSockets: 'Sockets whose owner is remembered.',
  waitingExchanges: 'Exchanges that wait for the API server to report their containers.',
  kubernetesObjects: 'Objects of one kind that are kept of a Kubernetes cluster.',
  kubernetesDeparted: 'Pods that are gone and kept for the spans that are on their way.',
  kubernetesDepartedUs: 'How long they are kept, and their addresses known as theirs.',
  kubernetesOwners: 'Owners of pods (ReplicaSets, Jobs) whose own owners are remembered.',
};

type LimitsShape = { [Name in keyof AllLimits as SnakeCase<Name>]: z.ZodDefault<z.ZodInt> };

const limitsShape = Object.fromEntries(
  Object.entries(defaultAllLimits).map(([name, value]) => {
    const meaning = limitDescriptions[name as keyof Limits] ?? moduleLimits[name]?.meaning ?? '';
    return [snakeKey(name), whole(Math.min(1, value), Number.MAX_SAFE_INTEGER, value, meaning)];
  }),
) as LimitsShape;

type ProtocolShape = {
  [Name in keyof ModuleSections]: z.ZodPrefault<z.ZodObject<ModuleSections[Name]['shape'], z.core.$strict>>;
};

const protocolShape = Object.fromEntries(
  Object.entries(moduleSections).map(([name, { shape, description }]) => [
    name,
    z.strictObject(shape).prefault({}).describe(description),
  ]),
) as ProtocolShape;

const captureShape = {
  cgroup: z
    .string()
    .min(1)
    .optional()
    .describe('Watch this subtree of the cgroup v2 hierarchy only; a path as `--cgroup` takes it. Default: its root.'),
  ring_mib: z
    .int()
    .min(1)
    .max(1024)
    .refine((size) => Number.isInteger(Math.log2(size)), 'expected a power of two')
    .default(32)
    .describe('Ring buffer between kernel and agent in MiB, a power of two. What does not fit is lost, and counted.'),
  poll_ms: whole(1, 1000, 3, 'While packets come, the ring buffer is read this often.'),
  exclude_ports: z
    .array(z.int().min(1).max(65_535))
    .max(MAX_LIST_ENTRIES)
    .default([])
    .describe('TCP ports, of either end, whose traffic is dropped in the kernel.'),
};

const exportShape = {
  queue_spans: whole(1, 10_000_000, 65_536, 'Spans that wait for export; the oldest are dropped, and counted.'),
  queue_mib: whole(1, 4096, 32, 'Bytes of encoded spans that wait for export, in MiB.'),
  batch_spans: whole(1, 100_000, 1024, 'Spans of one export request at most.'),
  batch_delay_ms: whole(1, 60_000, 1000, 'A batch that is not full is sent after this time.'),
  in_flight: whole(1, 30, 4, 'Export requests under way at once.'),
  flush_deadline_ms: whole(0, 600_000, 5000, 'At shutdown, what could not be exported within this time is given up.'),
  spool_folder: z
    .string()
    .min(1)
    .optional()
    .describe(
      'Spans that do not fit into the queue, or are left at shutdown, go to files in this folder instead of being dropped, and from there to the backend when it is back, also after a restart. One agent per folder. Default: nothing is written.',
    ),
  spool_mib: whole(16, 1_048_576, 256, 'Size of these files for each backend, in MiB; the oldest spans make room.'),
};

const metricsShape = {
  durations: z
    .boolean()
    .default(false)
    .describe(
      'Measure how long requests, calls and statements take, of all of them, whichever become spans: http.client.request.duration and so on.',
    ),
  exponential: z
    .boolean()
    .default(false)
    .describe(
      'Over OTLP as exponential histograms instead of those with fixed bounds. For Prometheus the bounds stay.',
    ),
  exemplars: z
    .boolean()
    .default(true)
    .describe('With each bucket a trace that stands for it, of those that became spans.'),
};

const telemetryShape = {
  listen: z
    .string()
    .refine((text) => parseListenAddress(text) !== undefined, 'expected HOST:PORT, such as 127.0.0.1:9464 or :9464')
    .optional()
    .describe(
      '`HOST:PORT`, or `:PORT` for every address: the agent answers /healthz, /readyz and /metrics there. Every client that reaches the port may read them. Default: it does not listen.',
    ),
  exchanges: z
    .boolean()
    .default(false)
    .describe(
      'Also answer `GET /exchanges` there: every exchange as it ends, as JSON lines or server-sent events. It shows the traffic of the whole machine; see docs/operations/security.md.',
    ),
  token_file: z
    .string()
    .min(1)
    .optional()
    .describe(
      'File with the bearer token that routes which show traffic ask for; read at the start. Without a token they are answered on loopback only.',
    ),
  token: z
    .string()
    .regex(tokenPattern, 'expected 16 or more of A-Z a-z 0-9 - . _ ~ + /')
    .optional()
    .describe('The token itself, where no `token_file` is set. Keep the configuration file private then.'),
  otlp: z
    .boolean()
    .default(false)
    .describe(
      "Send metrics over OTLP, the agent's own and those of `metrics`: to the backend of `otlp_metrics`, else of `otlp`.",
    ),
  interval_ms: whole(1, 3_600_000, 60_000, 'They are sent this often.'),
};

const logShape = {
  level: z.enum(logLevels).default('info').describe('Least severity of messages on standard error.'),
  format: z
    .enum(logFormats)
    .default('auto')
    .describe(
      'Form of messages on standard error: `text`; `json`, one object per line; `auto`: text for a terminal, else json. The line `ready` is as it is.',
    ),
};

export const configSchema = z.strictObject({
  outputs: z
    .array(z.string().refine(isOutput, `expected one of ${outputForms.join(', ')}`))
    .max(16)
    .superRefine((outputs, context) => {
      const message = outputConflict(outputs);
      if (message !== undefined) context.addIssue({ code: 'custom', message });
    })
    .default([])
    .describe(
      'Where spans go: `otlp`, `console`, `otlp-json`, `otlp-json=FILE`, `jsonl`, `jsonl=FILE`, `none`. Default: otlp when an endpoint is set, here or in the environment, else console.',
    ),
  capture: z.strictObject(captureShape).prefault({}).describe('What the agent watches, and how.'),
  ...protocolShape,
  kubernetes: z
    .strictObject(kubernetesShape)
    .prefault({})
    .describe('Names of pods, workloads and Services from a Kubernetes cluster, and which pods are watched.'),
  sampling: z
    .strictObject(samplingShape)
    .prefault({})
    .describe('Which traces are kept. Everything else is counted in `spans.leftOut`.'),
  filters: z.strictObject(filtersShape).prefault({}).describe('Which exchanges are of interest at all.'),
  services: z.strictObject(servicesShape).prefault({}).describe('Applications that make spans of their own.'),
  otlp: z
    .strictObject(otlpShape)
    .prefault({})
    .describe(
      'The backend of the output `otlp`. What is not said here is taken from the standard variables, OTEL_EXPORTER_OTLP_TRACES_* before OTEL_EXPORTER_OTLP_*.',
    ),
  otlp_copies: otlpCopies,
  otlp_metrics: z
    .strictObject(otlpShape)
    .optional()
    .describe(
      'The backend of metrics (`telemetry.otlp`), where it is not that of `otlp`: with any key here, or a variable OTEL_EXPORTER_OTLP_METRICS_*, nothing is taken from there.',
    ),
  export: z
    .strictObject(exportShape)
    .prefault({})
    .describe('Queue, batches and spool of each backend that `otlp` sends to.'),
  metrics: z.strictObject(metricsShape).prefault({}).describe('Metrics of what is seen, without spans.'),
  telemetry: z.strictObject(telemetryShape).prefault({}).describe('Health and metrics of the agent itself.'),
  limits: z.strictObject(limitsShape).prefault({}).describe('Caps. What passes one is counted, never lost silently.'),
  log: z.strictObject(logShape).prefault({}).describe("The agent's own messages."),
});

/** As written in the file, every key optional. */
export type ConfigFile = z.input<typeof configSchema>;

/** Validated and complete; names in camel case. */
export type Config = CamelCased<z.output<typeof configSchema>>;

export type LogLevel = (typeof logLevels)[number];
export type LogFormat = (typeof logFormats)[number];

/** Validated values with the file's names to the program's. */
export function toConfig(values: z.output<typeof configSchema>): Config {
  return camelCased(values) as Config;
}

function camelCased(value: unknown): unknown {
  if (Array.isArray(value)) return value.map(camelCased);
  if (value === null || typeof value !== 'object' || Object.getPrototypeOf(value) !== Object.prototype) return value;
  return Object.fromEntries(Object.entries(value).map(([key, inner]) => [camelKey(key), camelCased(inner)]));
}
