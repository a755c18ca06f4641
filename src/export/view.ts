/**
 * One serialisable view of an exchange, for what reads exchanges instead of spans: the console, `--output jsonl`, the feed. It says what was
 * asked as the spans say it: redacted, without literals. docs/reference/exchanges.md describes each key; a test compares it.
 */
import type { IncompleteReason } from '../exchange/exchange.ts';
import type { AttributeValue } from '../span/resource.ts';
import type { Span } from '../span/span.ts';

/** Raised when a key goes or changes its meaning; new keys do not raise it. */
export const VIEW_VERSION = 1;

/** How it went, for a colour. */
export type Severity = 'ok' | 'warning' | 'error';

/** Why something is not known, besides the reasons of an incomplete exchange. */
export type UnknownReason = 'joined_midstream' | 'no_socket' | 'owner_not_known' | 'not_seen' | 'not_certain';

/** What of an exchange is not known, and why. */
export interface Unknown {
  /** A key of the view, or of its `details`. */
  readonly what: string;
  readonly why: UnknownReason | IncompleteReason;
}

/** Numbers, texts and flags that only one protocol has. */
export type Details = Readonly<Record<string, string | number | boolean | undefined>>;

/** One endpoint of an exchange. */
export interface EndpointView {
  readonly address: string;
  readonly port: number;
  /** service.name of the process, or what the cluster calls the address. */
  readonly name: string | undefined;
  /** Its namespace in the cluster, where the name is the cluster's. */
  readonly namespace: string | undefined;
  /** Attributes of its resource as its spans have them: service, process, container, pod, workload, host. */
  readonly resource: Readonly<Record<string, AttributeValue>> | undefined;
  /** Of the span of this endpoint, in hexadecimal digits. */
  readonly spanId: string | undefined;
  readonly parentSpanId: string | undefined;
  /** Why this endpoint has no span: a reason of `spans.leftOut`, or `perspective`. */
  readonly leftOut: string | undefined;
}

export interface TlsView {
  /** `1.2`, `1.3`. */
  readonly version: string | undefined;
  /** By its IANA name. */
  readonly cipher: string | undefined;
  /** What the client asked for (SNI). */
  readonly serverName: string | undefined;
}

/** What a protocol says of an exchange. */
export interface ProtocolView {
  readonly protocolVersion: string | undefined;
  /** A short name for people: `h1`, `pg`. */
  readonly label: string;
  /** Of the first and the last byte that was seen, in the time of the capture; microseconds. */
  readonly startUs: number;
  readonly endUs: number;
  /** It goes on; a view of its end follows. */
  readonly open: boolean;
  /** What was asked, in one line, and a remark on it; empty: none. */
  readonly summary: string;
  readonly remark: string;
  /** What came of it, in a word; empty: not known. */
  readonly outcome: string;
  readonly severity: Severity;
  /** error.type; empty: none. */
  readonly error: string;
  readonly incomplete: IncompleteReason | undefined;
  readonly requestBytes: number;
  readonly responseBytes: number;
  /** From the first byte of the request to its last, to the first byte of the answer, to the first row or message. Microseconds. */
  readonly requestUs: number | undefined;
  readonly firstByteUs: number | undefined;
  readonly firstRowUs: number | undefined;
  readonly firstMessageUs: number | undefined;
  readonly details: Details;
  readonly unknown: readonly Unknown[] | undefined;
}

/** The view. Its keys stand in JSON as here; what is undefined is left out. */
export interface ExchangeView
  extends Omit<ProtocolView, 'startUs' | 'endUs' | 'incomplete' | 'error' | 'open' | 'remark' | 'outcome'> {
  readonly version: typeof VIEW_VERSION;
  /** As in `exchanges` of the statistics. */
  readonly protocol: string;
  /** Microseconds since the Unix epoch, with a fraction. */
  readonly startUnixUs: number;
  readonly durationUs: number;
  readonly open: true | undefined;
  readonly remark: string | undefined;
  readonly outcome: string | undefined;
  readonly error: string | undefined;
  /** Why it is not whole. */
  readonly incomplete: IncompleteReason | undefined;
  readonly client: EndpointView;
  readonly server: EndpointView;
  /** The client for whom a proxy made the connection, as its PROXY header says. */
  readonly relayedFor: { readonly address: string; readonly port: number } | undefined;
  readonly traceId: string | undefined;
  readonly tls: TlsView | undefined;
}

/** What a protocol's view is made with. */
export interface ViewTools<Config = unknown> {
  /** Whose view of success it is: a 404 is an error of the client's. */
  readonly from: 'client' | 'server';
  /** The spans of the exchange; none when it is left out. */
  readonly spans: readonly Span[];
  /** The protocol's sections of the configuration: one object for all views. */
  readonly config: Config;
}

/** Makes the views of one protocol's exchanges. */
export interface Viewer<E, Config = unknown> {
  /** What each key of `details` means: docs/reference/exchanges.md is printed from it. */
  readonly details: Readonly<Record<string, string>>;
  view(exchange: E, tools: ViewTools<Config>): ProtocolView;
}

/** @returns the time between two moments, of which 0 was not seen */
export function between(fromUs: number, toUs: number): number | undefined {
  return fromUs === 0 || toUs === 0 ? undefined : Math.max(0, round(toUs - fromUs));
}

/** Whole nanoseconds: no digits that were never measured. */
export function round(us: number): number {
  return Math.round(us * 1000) / 1000;
}

/** @param unknown undefined: none yet. @returns the list with one more */
export function andUnknown(
  unknown: readonly Unknown[] | undefined,
  what: string,
  why: Unknown['why'],
): readonly Unknown[] {
  return unknown === undefined ? [{ what, why }] : [...unknown, { what, why }];
}
