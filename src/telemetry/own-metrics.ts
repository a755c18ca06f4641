/** The agent's own metrics: all that its statistics count, what its outputs and rings hold, and what its process uses. */
import { REQUEST_BOUNDS } from '../metric/bounds.ts';
import type { Histogram } from '../metric/histogram.ts';
import type {
  Attributes,
  AttributeValue,
  HistogramMetric,
  Metric,
  MetricGroup,
  NumberKind,
  NumberPoint,
} from '../metric/metric.ts';
import { type Counters, count, type ReasonCounts } from './counters.ts';
import type { LoopDelay } from './loop-delay.ts';
import { ownMemoryBytes } from './own-memory.ts';

/** What an output holds and has done: see export/output.ts. */
export interface ObservedOutput {
  readonly name: string;
  readonly type: string;
  readonly queueSpans: number;
  readonly queueSpansLimit: number | undefined;
  readonly queueBytes: number;
  readonly queueBytesLimit: number;
  readonly inFlight: number;
  readonly inFlightSpans: number;
  readonly retries: number;
  readonly spoolSpans: number;
  readonly spoolBytes: number;
  /** Found there at the start: spans, and bytes that belong to nothing whole. */
  readonly spoolRecovered: number;
  readonly spoolDamagedBytes: number;
  /** In seconds, by error.type; empty for what was delivered. */
  readonly durations: ReadonlyMap<string, Histogram>;
  readonly exported: number;
  readonly dropped: Readonly<ReasonCounts>;
  /** What is dropped as `rejected`, by what the backend says about it: few texts, and short ones. */
  readonly rejections: Readonly<ReasonCounts>;
}

/** A ring between kernel and agent, in bytes. */
export interface ObservedRing {
  readonly waiting: number;
  readonly size: number;
}

/** A watch on the API server. */
export interface ObservedInformer {
  readonly name: string;
  readonly synced: boolean;
  readonly connected: boolean;
  readonly restarts: number;
  readonly objects: number;
}

/** What is exposed besides the counters. */
export interface Observations {
  /** By reason, what the kernel could not hand over: not in the counters before the end. */
  readonly lost: readonly ReasonCounts[];
  readonly rings: Readonly<Record<string, ObservedRing>>;
  readonly outputs: readonly ObservedOutput[];
  readonly informers: readonly ObservedInformer[];
  /** Files with a TLS library that are probed. */
  readonly probedFiles: number;
  /** What the parts besides the pipeline count, by TABLE_ROWS. */
  readonly tables: Partial<Record<keyof typeof TABLE_ROWS, ReasonCounts>>;
  /** The budget of all that grows with its input, in bytes. */
  readonly memory: { readonly bytes: number; readonly limitBytes: number };
  readonly loopDelay: LoopDelay;
  /** When the agent began, in microseconds since the epoch. */
  readonly startUnixUs: number;
  /** Data points of metrics that are sent over OTLP, where they are. */
  readonly push?:
    | { readonly inFlight: number; readonly exported: number; readonly dropped: Readonly<ReasonCounts> }
    | undefined;
}

/**
 * Counters by their place in Counters: name, unit, meaning, and the attribute that tells the entries of a table apart. A test wants a row
 * for every one.
 */
export const COUNTER_ROWS: readonly (readonly [path: string, name: string, unit: string, text: string, by?: string])[] =
  [
    ['packets.captured', 'wirespan.packets', '{packet}', 'Packets that were captured'],
    ['packets.bytes', 'wirespan.packets.size', 'By', 'Bytes that were captured'],
    [
      'packets.lost',
      'wirespan.packets.lost',
      '{packet}',
      'Packets and records that were lost between kernel and agent',
      'reason',
    ],
    ['packets.ignored', 'wirespan.packets.ignored', '{packet}', 'Packets that are ignored', 'reason'],
    ['connections.tcp', 'wirespan.connections', '{connection}', 'TCP connections'],
    [
      'connections.ended',
      'wirespan.connections.ended',
      '{connection}',
      'TCP connections that have ended, by how',
      'reason',
    ],
    [
      'connections.unrecognised',
      'wirespan.connections.unrecognised',
      '{connection}',
      'Byte streams of no known protocol',
      'reason',
    ],
    [
      'connections.opaque',
      'wirespan.connections.opaque',
      '{connection}',
      'Connections that are passed over, by what they carry',
      'content',
    ],
    [
      'connections.givenUp',
      'wirespan.connections.given_up',
      '{connection}',
      'Connections that were read, and are passed over since a limit was reached',
      'reason',
    ],
    ['memory', 'wirespan.memory.given_up', '{event}', 'What was given up because memory was full', 'holder'],
    ['connections.tls', 'wirespan.tls.connections', '{connection}', 'TLS connections'],
    [
      'connections.decrypted',
      'wirespan.tls.connections.decrypted',
      '{connection}',
      'TLS connections that have ended and were read',
    ],
    [
      'connections.undecryptable',
      'wirespan.tls.connections.undecryptable',
      '{connection}',
      'TLS connections that could not be read, or not to the end',
      'reason',
    ],
    ['secrets', 'wirespan.tls.secrets', '{secret}', 'TLS secrets, by what became of them', 'event'],
    ['reassembly', 'wirespan.tcp.reassembly', '{event}', 'Retransmissions, holes and the like', 'event'],
    ['exchanges', 'wirespan.exchanges', '{exchange}', 'Requests, calls and statements', 'protocol'],
    ['incomplete', 'wirespan.exchanges.incomplete', '{exchange}', 'Those that are not whole', 'reason'],
    ['sql', 'wirespan.sql.unknown', '{statement}', 'What is not known of statements', 'reason'],
    ['metrics', 'wirespan.metrics.events', '{event}', 'Series of durations that were too many, or forgotten', 'event'],
    ['parseErrors', 'wirespan.parse_errors', '{error}', 'What could not be parsed', 'protocol'],
    ['internalErrors', 'wirespan.internal_errors', '{error}', 'Errors of the agent itself; any is a defect', 'part'],
    ['spans.leftOut', 'wirespan.spans.left_out', '{span}', 'Spans that were not made on purpose', 'reason'],
    ['feed', 'wirespan.feed.missed', '{exchange}', 'Exchanges that readers of the feed did not get', 'reason'],
    ['services', 'wirespan.services.events', '{event}', 'What was seen of services, and forgotten of them', 'event'],
  ];

const TABLE_ROWS = {
  probes: ['wirespan.probes.events', 'What was left out in the search for TLS libraries'],
  reader: [
    'wirespan.reader.events',
    'What caps, shares of work and hanging file systems cost in reading about processes',
  ],
  workloads: ['wirespan.workloads.events', 'Processes that were read, had vanished, were forgotten'],
  kubernetes: ['wirespan.kubernetes.events', 'What the watches on the cluster brought'],
  waits: ['wirespan.kubernetes.waits', 'Exchanges that waited for what the cluster knows'],
} as const;

/** Values that are exposed for each output, or as otel.sdk.*: by which metric. */
export const COUNTERS_TOLD_ELSEWHERE: Readonly<Record<string, string>> = {
  'spans.made': 'otel.sdk.span.started',
  'spans.exported': 'otel.sdk.exporter.span.exported',
  'spans.dropped': 'otel.sdk.processor.span.processed',
  'spans.rejections': 'wirespan.output.rejections',
  'spans.spool.recovered': 'wirespan.output.spool.recovered',
  'spans.spool.left': 'wirespan.output.spool.spans',
  'spans.spool.damagedBytes': 'wirespan.output.spool.damaged',
  otherOutputs: 'otel.sdk.exporter.span.exported',
};

/** Why spans never came to the exporter, by the words of the semantic conventions; all other reasons are the exporter's. */
const PROCESSOR_ERRORS: Readonly<Record<string, string>> = {
  queue_full: 'queue_full',
  too_large: 'too_large',
  shutdown: 'already_shutdown',
};

export function ownMetrics(counters: Counters, observed: Observations, resource: Attributes): MetricGroup {
  const metrics = [
    ...counterMetrics(counters, observed.lost),
    ...spanMetrics(counters, observed.outputs),
    exportDurations(observed),
    ...pushMetrics(observed),
    ...outputMetrics(observed.outputs),
    ...captureMetrics(observed),
    ...memoryMetrics(observed.memory),
    ...processMetrics(observed.loopDelay),
  ];
  return { resource, labels: {}, metrics };
}

function counterMetrics(counters: Counters, lost: readonly ReasonCounts[]): Metric[] {
  return COUNTER_ROWS.map(([path, name, unit, text, by]) => {
    const value = path === 'packets.lost' ? joined([counters.packets.lost, ...lost]) : at(counters, path);
    if (typeof value === 'number') return metric('counter', name, unit, text, [point(value)]);
    return metric('counter', name, unit, text, byKey(value, by ?? 'reason'));
  });
}

/** The semantic conventions for OpenTelemetry SDK metrics: for each span that is made there is one started. */
function spanMetrics({ spans }: Counters, outputs: readonly ObservedOutput[]): Metric[] {
  const processed: NumberPoint[] = [];
  const exported: NumberPoint[] = [];
  for (const output of outputs) {
    let handedOver = output.exported + output.inFlightSpans;
    exported.push(point(output.exported, componentOf(output)));
    for (const [reason, value] of Object.entries(output.dropped)) {
      const error = PROCESSOR_ERRORS[reason];
      if (error === undefined) handedOver += value;
      const points = error === undefined ? exported : processed;
      points.push(point(value, { ...componentOf(output), 'error.type': error ?? reason }));
    }
    processed.push(point(handedOver, componentOf(output)));
  }
  const sampling = 'otel.span.sampling_result';
  const bounded = outputs.filter(({ queueSpansLimit }) => queueSpansLimit !== undefined);
  return [
    metric('counter', 'otel.sdk.span.started', '{span}', 'Spans, by what the sampler has decided', [
      point(spans.made, { [sampling]: 'RECORD_AND_SAMPLE' }),
      point((spans.leftOut.unsampled ?? 0) + (spans.leftOut.rate_limited ?? 0), { [sampling]: 'DROP' }),
    ]),
    metric(
      'counter',
      'otel.sdk.processor.span.processed',
      '{span}',
      'Spans that were handed to an exporter, or dropped before',
      processed,
    ),
    metric(
      'counter',
      'otel.sdk.exporter.span.exported',
      '{span}',
      'Spans whose export has finished, well or not',
      exported,
    ),
    metric(
      'up_down_counter',
      'otel.sdk.exporter.span.inflight',
      '{span}',
      'Spans that are under way',
      outputs.map((output) => point(output.inFlightSpans, componentOf(output))),
    ),
    metric(
      'up_down_counter',
      'otel.sdk.processor.span.queue.size',
      '{span}',
      'Spans that wait for export',
      outputs.map((output) => point(output.queueSpans, componentOf(output))),
    ),
    metric(
      'up_down_counter',
      'otel.sdk.processor.span.queue.capacity',
      '{span}',
      'Spans that may wait for export',
      bounded.map((output) => point(output.queueSpansLimit!, componentOf(output))),
    ),
  ];
}

function exportDurations({ outputs, startUnixUs }: Observations): HistogramMetric {
  const points = outputs.flatMap((output) =>
    [...output.durations].map(([errorType, histogram]) => ({
      attributes: { ...componentOf(output), ...(errorType !== '' && { 'error.type': errorType }) },
      startUnixUs,
      ...histogram.read(),
    })),
  );
  const description = 'From when spans were first sent until nothing more was done with them';
  return {
    kind: 'histogram',
    name: 'otel.sdk.exporter.operation.duration',
    unit: 's',
    description,
    bounds: REQUEST_BOUNDS,
    points,
  };
}

function pushMetrics({ push }: Observations): Metric[] {
  if (push === undefined) return [];
  const dropped = Object.entries(push.dropped).map(([reason, value]) => point(value, { 'error.type': reason }));
  const [unit, of] = ['{data_point}', 'otel.sdk.exporter.metric_data_point'];
  return [
    metric('counter', `${of}.exported`, unit, 'Data points whose export has finished, well or not', [
      point(push.exported),
      ...dropped,
    ]),
    metric('up_down_counter', `${of}.inflight`, unit, 'Data points that are under way', [point(push.inFlight)]),
  ];
}

function componentOf({ name, type }: ObservedOutput): Attributes {
  return { 'otel.component.name': name, 'otel.component.type': type };
}

function outputMetrics(outputs: readonly ObservedOutput[]): Metric[] {
  const all = (
    kind: NumberKind,
    name: string,
    unit: string,
    text: string,
    read: (output: ObservedOutput) => number,
  ): Metric =>
    metric(
      kind,
      `wirespan.output.${name}`,
      unit,
      text,
      outputs.map((output) => point(read(output), { output: output.name })),
    );
  return [
    all('up_down_counter', 'queue.usage', 'By', 'Bytes that wait for export', (output) => output.queueBytes),
    all('up_down_counter', 'queue.limit', 'By', 'Bytes that may wait for export', (output) => output.queueBytesLimit),
    all(
      'up_down_counter',
      'requests.inflight',
      '{request}',
      'Requests that are under way',
      (output) => output.inFlight,
    ),
    all('counter', 'retries', '{request}', 'Requests that were sent again', (output) => output.retries),
    all('up_down_counter', 'spool.usage', 'By', 'Bytes that wait on disk', (output) => output.spoolBytes),
    all('up_down_counter', 'spool.spans', '{span}', 'Spans that wait on disk', (output) => output.spoolSpans),
    all('counter', 'spool.recovered', '{span}', 'Spans that an earlier run left', (output) => output.spoolRecovered),
    all(
      'counter',
      'spool.damaged',
      'By',
      'Bytes on disk that belonged to nothing whole',
      (output) => output.spoolDamagedBytes,
    ),
    metric(
      'counter',
      'wirespan.output.rejections',
      '{span}',
      'Spans that the backend rejected, by what it said',
      outputs.flatMap(({ name, rejections }) =>
        Object.entries(rejections).map(([reason, value]) => point(value, { output: name, reason })),
      ),
    ),
  ];
}

function captureMetrics({ rings, informers, probedFiles, tables }: Observations): Metric[] {
  const ofRings = (read: (ring: ObservedRing) => number): NumberPoint[] =>
    Object.entries(rings).map(([ring, usage]) => point(read(usage), { ring }));
  const ofInformers = (read: (informer: ObservedInformer) => number): NumberPoint[] =>
    informers.map((informer) => point(read(informer), { informer: informer.name }));
  return [
    metric(
      'up_down_counter',
      'wirespan.ring.usage',
      'By',
      'Bytes in the rings between kernel and agent',
      ofRings(({ waiting }) => waiting),
    ),
    metric(
      'up_down_counter',
      'wirespan.ring.limit',
      'By',
      'Bytes that the rings hold',
      ofRings(({ size }) => size),
    ),
    metric('gauge', 'wirespan.probes.files', '{file}', 'Files with a TLS library that are probed', [
      point(probedFiles),
    ]),
    ...Object.entries(tables).map(([table, counts]) => {
      const [name, text] = TABLE_ROWS[table as keyof typeof TABLE_ROWS];
      return metric('counter', name, '{event}', text, byKey(counts, 'event'));
    }),
    metric(
      'gauge',
      'wirespan.informer.synced',
      '{informer}',
      '1 when the informer knows what the API server has',
      ofInformers(({ synced }) => (synced ? 1 : 0)),
    ),
    metric(
      'gauge',
      'wirespan.informer.connected',
      '{informer}',
      '1 while the API server tells the informer of changes',
      ofInformers(({ connected }) => (connected ? 1 : 0)),
    ),
    metric(
      'up_down_counter',
      'wirespan.informer.objects',
      '{object}',
      'Objects that the informer holds',
      ofInformers(({ objects }) => objects),
    ),
    metric(
      'counter',
      'wirespan.informer.restarts',
      '{restart}',
      'How often the informer was restarted',
      ofInformers(({ restarts }) => restarts),
    ),
  ];
}

function memoryMetrics({ bytes, limitBytes }: Observations['memory']): Metric[] {
  const own = ownMemoryBytes();
  return [
    metric('up_down_counter', 'wirespan.memory.usage', 'By', 'What is held of what is seen', [point(bytes)]),
    metric('up_down_counter', 'wirespan.memory.limit', 'By', 'What may be held of it', [point(limitBytes)]),
    metric(
      'up_down_counter',
      'wirespan.process.memory.own',
      'By',
      'Memory of this process alone: without files, and without the rings that the kernel has too',
      own === undefined ? [] : [point(own)],
    ),
  ];
}

function processMetrics(delay: LoopDelay): Metric[] {
  const { user, system } = process.cpuUsage();
  const { rss, heapUsed } = process.memoryUsage();
  const seconds = delay.read();
  return [
    metric('counter', 'process.cpu.time', 's', 'Processor time of all threads', [
      point(user / 1e6, { 'cpu.mode': 'user' }),
      point(system / 1e6, { 'cpu.mode': 'system' }),
    ]),
    metric('up_down_counter', 'process.memory.usage', 'By', 'Resident memory', [point(rss)]),
    // getrusage(2): kilobytes of 1024 bytes.
    metric('gauge', 'wirespan.process.memory.peak', 'By', 'The most resident memory so far', [
      point(process.resourceUsage().maxRSS * 1024),
    ]),
    metric('gauge', 'wirespan.process.memory.heap', 'By', "Objects in the main thread's heap", [point(heapUsed)]),
    metric('gauge', 'process.uptime', 's', 'Since the process began', [point(process.uptime())]),
    ...Object.entries(seconds).map(([which, value]) =>
      metric('gauge', `nodejs.eventloop.delay.${which}`, 's', 'How late the event loop was', [point(value)]),
    ),
  ];
}

function metric(
  kind: NumberKind,
  name: string,
  unit: string,
  description: string,
  points: readonly NumberPoint[],
): Metric {
  return { kind, name, unit, description, points };
}

const NONE: Attributes = {};

function point(value: number, attributes: Attributes = NONE): NumberPoint {
  return { value, attributes };
}

function byKey(counts: ReasonCounts, key: string): NumberPoint[] {
  return Object.entries(counts).map(([reason, value]) => point(value, { [key]: reason satisfies AttributeValue }));
}

function joined(tables: readonly ReasonCounts[]): ReasonCounts {
  const sum: ReasonCounts = {};
  for (const table of tables) for (const [reason, value] of Object.entries(table)) count(sum, reason, value);
  return sum;
}

function at(counters: Counters, path: string): number | ReasonCounts {
  let value: unknown = counters;
  for (const step of path.split('.')) value = (value as Record<string, unknown>)[step];
  return value as number | ReasonCounts;
}
