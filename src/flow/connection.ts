/** Client to server. */
export const FROM_CLIENT = 0;
/** Server to client. */
export const FROM_SERVER = 1;
export type Direction = typeof FROM_CLIENT | typeof FROM_SERVER;

export function opposite(direction: Direction): Direction {
  return direction === FROM_CLIENT ? FROM_SERVER : FROM_CLIENT;
}

/** One end of a TCP connection. */
export interface Endpoint {
  /** Textual IP address, IPv4-mapped IPv6 written as IPv4. */
  readonly address: string;
  readonly port: number;
  /** Socket cookie of the socket on this machine, 0 when the end is elsewhere or not known yet. */
  socket: number;
}

/** The client for whom a proxy made a connection, as the proxy says it. */
export interface RelayedClient {
  /** IP address, or the path of a Unix socket. */
  readonly address: string;
  /** 0: none. */
  readonly port: number;
}

/** What is known of the TLS session inside a connection. */
export interface TlsInfo {
  /** `1.2` or `1.3`, empty until the ServerHello. */
  version: string;
  /** IANA name such as TLS_AES_128_GCM_SHA256, empty until the ServerHello. */
  cipherSuite: string;
  serverName: string | undefined;
  alpn: string | undefined;
  /** 32 bytes; names the connection at both of its ends. */
  clientRandom: Buffer | undefined;
}

/** What all stages know of one TCP connection: one object for both of its ends, however many sockets were seen. */
export interface Connection {
  readonly id: number;
  readonly client: Endpoint;
  readonly server: Endpoint;
  /**
   * The SYN was seen; else the connection is older than the capture, and which end is the client is a guess: until its protocol is
   * known, `client` and `server` may change places.
   */
  readonly startSeen: boolean;
  /** Initial sequence numbers by direction, -1 where not seen. */
  readonly initialSequence: readonly [number, number];
  readonly startUs: number;
  tls: TlsInfo | undefined;
  /** Set when a header of the PROXY protocol names a client. */
  relayedFor?: RelayedClient | undefined;
  /** Set while some layer holds data that waits for a TLS secret. */
  awaitingSecret: boolean;
  /** What the span stage keeps with the connection; let go when it ends, though it is remembered for a while. */
  spanState: object | undefined;
}

/** Why the bytes of a direction, or a connection, ended. */
export type EndReason =
  | 'fin'
  | 'reset'
  /** Nothing was seen for the idle time. */
  | 'idle'
  /** What follows cannot be read: records that do not open, or an error of our own. */
  | 'unreadable'
  /** Its place was needed, a limit was reached. */
  | 'evicted'
  /** It held more than any other when memory was full (memory/budget.ts). */
  | 'memory'
  /** The same addresses and ports began a new connection. */
  | 'reused'
  /** The capture ended. */
  | 'shutdown';

/**
 * A stage that takes the bytes of one connection in order, such as TLS or HTTP. Sans-IO: time arrives with the event.
 *
 * - `data`: bytes[start..end) are borrowed and valid during the call only. `timeUs` is when they were whole, `firstUs` (default: the
 *   same) when the first of them was seen: earlier for what had to be whole to be read, such as an encrypted record.
 * - `gap`: `length` bytes were lost for good; those after them follow.
 * - `lossAhead`: something was lost; how much, `gap` says ahead of the next bytes of this direction. Called for what may come before from the
 *   other one, where what was lost cannot be measured at once, as in TLS.
 * - `end`: no more data in this direction. Called at most once per direction.
 * - `close`: no more calls at all. Always called last, once. Release what is held, zero keys.
 * - `tick`: time passes; called now and then for connections that asked for it (LayerContext.wantTicks).
 */
export interface Layer {
  data(direction: Direction, bytes: Buffer, start: number, end: number, timeUs: number, firstUs?: number): void;
  gap(direction: Direction, length: number, timeUs: number): void;
  lossAhead?(direction: Direction): void;
  end(direction: Direction, reason: EndReason, timeUs: number): void;
  close(reason: EndReason, timeUs: number): void;
  tick?(timeUs: number): void;
}
