/**
 * Counts by reason. Reasons are a closed set of snake_case words in the code that counts them, but for the name of a library (`no_probe: NAME` of
 * `undecryptable`) and the words of a backend (`rejections`).
 */
export type ReasonCounts = Record<string, number>;

export function count(counts: ReasonCounts, reason: string, n = 1): void {
  counts[reason] = (counts[reason] ?? 0) + n;
}

/** What became of the spans that an output was given. */
export interface Deliveries {
  exported: number;
  dropped: ReasonCounts;
  /** What is dropped as `rejected`, by what the backend says about it. */
  rejections?: ReasonCounts;
  /**
   * Of an output with a spool: spans that were found in it at the start, those that are left in it at the end, and bytes that are part of
   * nothing that was wholly written. What was given to the output and `recovered` = `exported` + `dropped` + `left`.
   */
  spool?: { recovered: number; left: number; damagedBytes: number };
}

/** What the process has seen, made and lost: the source of --stats and of the agent's own metrics. One object per process. */
export interface Counters {
  packets: { captured: number; bytes: number; lost: ReasonCounts; ignored: ReasonCounts };
  connections: {
    tcp: number;
    /** Those that have ended are decrypted or undecryptable, one of the two. */
    tls: number;
    decrypted: number;
    /** Not read, or not to the end. */
    undecryptable: ReasonCounts;
    ended: ReasonCounts;
    /** Byte streams, plain or decrypted, whose protocol is none that is parsed here. */
    unrecognised: ReasonCounts;
    /** Connections of a known protocol that are passed over from some point on, by what they carry: `postgresql_replication`, ... */
    opaque: ReasonCounts;
    /** Connections that were read, and are passed over since a limit was reached: `memory`, `pipeline_limit`, `protocol_error`. */
    givenUp: ReasonCounts;
  };
  /** What was given up because memory was full (limits.memoryMib), by what held the most: `connection`, `sql_texts`, ... */
  memory: ReasonCounts;
  /** TLS secrets received, and those that were evicted, expired, malformed, ... */
  secrets: ReasonCounts;
  /** TCP reassembly: retransmissions, overlaps, gaps, ... by name. */
  reassembly: ReasonCounts;
  /** All exchanges that were emitted, by protocol; the incomplete ones among them. */
  exchanges: ReasonCounts;
  /**
   * Exchanges that are not whole, and messages that made none: `request_not_seen` counts responses without a request; a request
   * whose start line is not whole is counted under the reason that ended it.
   */
  incomplete: ReasonCounts;
  /** What is not known of SQL statements that have a span nevertheless: `text_limit`, `statement_evicted`, `statement_not_seen`, ... */
  sql: ReasonCounts;
  /**
   * Of the durations of exchanges: `series_limit` counts what went into the series for all that are too many, `series_expired` series,
   * `avoided_service` what was not measured because the process exports metrics of its own.
   */
  metrics: ReasonCounts;
  /** By protocol. */
  parseErrors: ReasonCounts;
  /** Errors of our own that were caught, by what was given up for them: `connection`, `exchange`, `packet`, ... Any is a defect. */
  internalErrors: ReasonCounts;
  /**
   * `exported` and `dropped` are those of one output, so that each span counts once: of the first in use of otlp, otlp-json and
   * console. Once the outputs have ended, made = exported + dropped, unless the only output is `none`.
   */
  spans: Deliveries & {
    made: number;
    /**
     * Spans that were not made on purpose: `unsampled` and `rate_limited` (sampling), `filtered`, `avoided_service` (that make spans of their
     * own), `otlp_export` (the telemetry of other processes), `ignored` and `below_min_duration` (SQL statements, by the configuration),
     * `given_up` (exchanges that a limit ended, beyond what the outputs have room for; counted once, whatever their ends), `not_watched` (pods) and `seen_by_client` (statements of which the agent at the client's end makes the span) in Kubernetes.
     */
    leftOut: ReasonCounts;
  };
  /**
   * What was seen of services and what had to be forgotten: `exports_traces`, `exports_metrics`, ... (processes that export such telemetry
   * over OTLP), `exports_forgotten`, `rate_forgotten`, and requests whose route was not learned: `routes_services_limit`,
   * `routes_segments_limit`.
   */
  services: ReasonCounts;
  /** Of the feed of exchanges: what its readers did not get, by why: `rate_limited`, `slow_reader`, ... */
  feed: ReasonCounts;
  /** The same of every further output, by its name as --output takes it. */
  otherOutputs: Record<string, Deliveries>;
}

export function newCounters(): Counters {
  return {
    packets: { captured: 0, bytes: 0, lost: {}, ignored: {} },
    connections: {
      tcp: 0,
      tls: 0,
      decrypted: 0,
      undecryptable: {},
      ended: {},
      unrecognised: {},
      opaque: {},
      givenUp: {},
    },
    memory: {},
    secrets: {},
    reassembly: {},
    exchanges: {},
    incomplete: {},
    sql: {},
    metrics: {},
    parseErrors: {},
    internalErrors: {},
    services: {},
    feed: {},
    spans: { made: 0, exported: 0, dropped: {}, leftOut: {} },
    otherOutputs: {},
  };
}
