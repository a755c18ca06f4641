/** Makes the view of any exchange: what its protocol says of it, and who its endpoints are. */
import type { Exchange } from '../exchange/exchange.ts';
import type { Connection } from '../flow/connection.ts';
import type { ConnectionPeers, Peer, PeerDirectory } from '../span/peer.ts';
import type { ResourceResolver } from '../span/resource.ts';
import type { Span } from '../span/span.ts';
import type { Clock } from '../telemetry/clock.ts';
import {
  andUnknown,
  type EndpointView,
  type ExchangeView,
  round,
  type TlsView,
  type Unknown,
  VIEW_VERSION,
  type Viewer,
} from './view.ts';

export interface ViewsOptions {
  /** By `Exchange.protocol`. */
  readonly viewers: ReadonlyMap<string, Viewer<Exchange>>;
  readonly clock: Clock;
  readonly resources: ResourceResolver;
  readonly peers?: PeerDirectory | undefined;
  /** The sections of all protocols. */
  readonly config: unknown;
}

/** Why the endpoints of an exchange have no span. */
export interface LeftOut {
  readonly client: string;
  readonly server: string;
}

/** An exchange that is being delivered. Valid during the call only. */
export interface Seen {
  /** Made when it is asked for the first time. */
  readonly view: ExchangeView;
}

/** One object for all exchanges: `show` gives it the next one. Nobody pays for a view that nobody reads. */
export class Views implements Seen {
  private readonly options: ViewsOptions;
  private readonly peers = new WeakMap<Connection, ConnectionPeers>();
  private exchange: Exchange | undefined;
  private spans: readonly Span[] = [];
  private leftOut: LeftOut = { client: '', server: '' };
  private made: ExchangeView | undefined;
  /** Of the view in the making. */
  private unknown: readonly Unknown[] | undefined;

  constructor(options: ViewsOptions) {
    this.options = options;
  }

  /**
   * @param spans of the exchange, valid as long as its view may be asked for
   * @param leftOut read for endpoints that have no span
   */
  show(exchange: Exchange, spans: readonly Span[], leftOut: LeftOut): void {
    this.exchange = exchange;
    this.spans = spans;
    this.leftOut = leftOut;
    this.made = undefined;
  }

  get view(): ExchangeView {
    this.made ??= this.make(this.exchange!);
    return this.made;
  }

  private make(exchange: Exchange): ExchangeView {
    const { spans } = this;
    const { connection } = exchange;
    const from = spans[0]?.endpoint ?? 'client';
    const viewer = this.options.viewers.get(exchange.protocol);
    if (viewer === undefined) throw new Error(`no view is known of ${exchange.protocol}`);
    const said = viewer.view(exchange, { from, spans, config: this.options.config });
    this.unknown = connection.startSeen ? said.unknown : andUnknown(said.unknown, 'connection', 'joined_midstream');
    const client = this.endpoint(connection, 'client');
    const server = this.endpoint(connection, 'server');
    return {
      version: VIEW_VERSION,
      protocol: exchange.protocol,
      protocolVersion: said.protocolVersion,
      label: said.label,
      startUnixUs: spans[0]?.startUnixUs ?? this.options.clock.unixUs(said.startUs),
      durationUs: round(said.endUs - said.startUs),
      requestUs: said.requestUs,
      firstByteUs: said.firstByteUs,
      firstRowUs: said.firstRowUs,
      firstMessageUs: said.firstMessageUs,
      open: said.open || undefined,
      client,
      server,
      relayedFor: connection.relayedFor,
      summary: said.summary,
      remark: said.remark || undefined,
      outcome: said.outcome || undefined,
      severity: said.severity,
      error: said.error || undefined,
      incomplete: said.incomplete,
      requestBytes: said.requestBytes,
      responseBytes: said.responseBytes,
      traceId: spans[0]?.traceId,
      tls: tlsOf(connection),
      details: said.details,
      unknown: this.unknown,
    };
  }

  private endpoint(connection: Connection, which: 'client' | 'server'): EndpointView {
    const { address, port, socket } = connection[which];
    const span = this.spans.find(({ endpoint }) => endpoint === which);
    const owner = socket === 0 ? undefined : this.options.resources.resourceOf(socket);
    const peer = owner === undefined ? this.peerAt(connection, which) : undefined;
    if (owner === undefined && peer === undefined) {
      this.unknown = andUnknown(this.unknown, which, socket === 0 ? 'no_socket' : 'owner_not_known');
    }
    // A span of an unknown owner has a resource, too, which says so.
    const resource = span?.resource ?? owner;
    return {
      address,
      port,
      name: resource?.name ?? peer?.name,
      namespace: peer?.namespace || undefined,
      resource: resource?.attributes,
      spanId: span?.spanId,
      parentSpanId: span?.parentSpanId || undefined,
      leftOut: span === undefined ? this.leftOut[which] : undefined,
    };
  }

  /** Who has the address of that endpoint, as a directory of the cluster says. */
  private peerAt(connection: Connection, which: 'client' | 'server'): Peer | undefined {
    const { peers, clock } = this.options;
    if (peers === undefined) return undefined;
    let known = this.peers.get(connection);
    if (known === undefined) {
      known = { revision: -1, client: undefined, server: undefined };
      this.peers.set(connection, known);
    }
    if (known.revision !== peers.revision) {
      const { client, server } = connection;
      const begunMs = clock.unixUs(connection.startUs) / 1000;
      known.revision = peers.revision;
      known.client = peers.find(client.address, 0, begunMs);
      known.server = peers.find(server.address, server.port, begunMs);
    }
    return known[which];
  }
}

function tlsOf({ tls }: Connection): TlsView | undefined {
  if (tls === undefined) return undefined;
  return { version: tls.version || undefined, cipher: tls.cipherSuite || undefined, serverName: tls.serverName };
}
