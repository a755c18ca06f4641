import type { AttributeValue } from './resource.ts';

let nextIndex = 0;

/**
 * The name of an attribute, made once. Encoders keep what they know of it under `index`: its encoded name, and the whole encoded
 * attribute for values that repeat.
 */
export class AttributeKey {
  readonly name: string;
  /** Few distinct values are expected, so that the encoded attribute is worth keeping. */
  readonly repeats: boolean;
  /** A number is a double even when it happens to be whole. */
  readonly isDouble: boolean;
  /** Small, dense, unique in the process. */
  readonly index: number;

  constructor(name: string, options: { repeats?: boolean; isDouble?: boolean } = {}) {
    this.name = name;
    this.repeats = options.repeats ?? false;
    this.isDouble = options.isDouble ?? false;
    this.index = nextIndex++;
  }
}

/** Attributes that many spans share, in order: an encoder encodes them once and keeps the bytes under the block's identity. */
export class AttributeBlock {
  readonly keys: readonly AttributeKey[];
  readonly values: readonly AttributeValue[];
  /** The bytes that the OTLP encoder made of this block; nobody else's. */
  encoded: Uint8Array | undefined = undefined;
  /** What that encoder knows of the last span with this block. */
  template: object | undefined = undefined;

  constructor(keys: readonly AttributeKey[], values: readonly AttributeValue[]) {
    this.keys = keys;
    this.values = values;
  }
}

const repeats = { repeats: true } as const;

/** Names of the semantic conventions 1.45; those that begin with `wirespan.` are this project's own. */
export const KEY = {
  clientAddress: new AttributeKey('client.address', repeats),
  clientPort: new AttributeKey('client.port'),
  dbCollectionName: new AttributeKey('db.collection.name', repeats),
  dbNamespace: new AttributeKey('db.namespace', repeats),
  dbOperationBatchSize: new AttributeKey('db.operation.batch.size'),
  dbOperationName: new AttributeKey('db.operation.name', repeats),
  dbQuerySummary: new AttributeKey('db.query.summary', repeats),
  dbQueryText: new AttributeKey('db.query.text'),
  dbResponseReturnedRows: new AttributeKey('db.response.returned_rows'),
  dbResponseStatusCode: new AttributeKey('db.response.status_code', repeats),
  dbStoredProcedureName: new AttributeKey('db.stored_procedure.name', repeats),
  dbSystemName: new AttributeKey('db.system.name', repeats),
  errorType: new AttributeKey('error.type', repeats),
  httpRequestBodySize: new AttributeKey('http.request.body.size'),
  httpRequestMethod: new AttributeKey('http.request.method', repeats),
  httpRequestMethodOriginal: new AttributeKey('http.request.method_original'),
  httpResponseBodySize: new AttributeKey('http.response.body.size'),
  httpResponseStatusCode: new AttributeKey('http.response.status_code', repeats),
  httpRoute: new AttributeKey('http.route', repeats),
  networkPeerAddress: new AttributeKey('network.peer.address', repeats),
  networkPeerPort: new AttributeKey('network.peer.port'),
  networkProtocolName: new AttributeKey('network.protocol.name', repeats),
  networkProtocolVersion: new AttributeKey('network.protocol.version', repeats),
  /** For backends that know service.peer.name by its former name only. */
  peerService: new AttributeKey('peer.service', repeats),
  rpcMethod: new AttributeKey('rpc.method', repeats),
  rpcStatusCode: new AttributeKey('rpc.status_code', repeats),
  rpcSystemName: new AttributeKey('rpc.system.name', repeats),
  serverAddress: new AttributeKey('server.address', repeats),
  serverPort: new AttributeKey('server.port', repeats),
  servicePeerName: new AttributeKey('service.peer.name', repeats),
  servicePeerNamespace: new AttributeKey('service.peer.namespace', repeats),
  tlsCipher: new AttributeKey('tls.cipher', repeats),
  tlsProtocolVersion: new AttributeKey('tls.protocol.version', repeats),
  urlFull: new AttributeKey('url.full'),
  urlPath: new AttributeKey('url.path'),
  urlQuery: new AttributeKey('url.query'),
  urlScheme: new AttributeKey('url.scheme', repeats),
  userAgentOriginal: new AttributeKey('user_agent.original', repeats),
  /** Seconds from the first byte of the request to the first byte of the final response. */
  timeToFirstByte: new AttributeKey('wirespan.http.response.time_to_first_byte', { isDouble: true }),
  /** Position of a statement in its message, from 0, and how many there are in it; only where there are several. */
  batchIndex: new AttributeKey('wirespan.db.batch.index', repeats),
  batchCount: new AttributeKey('wirespan.db.batch.count', repeats),
  /** db.query.text was cut to the longest that the configuration allows. */
  queryTextTruncated: new AttributeKey('wirespan.db.query.text.truncated', repeats),
  /** Bytes of the protocol's messages with their headers: of the statement, of all that answered it. */
  dbRequestSize: new AttributeKey('wirespan.db.request.size'),
  dbResponseSize: new AttributeKey('wirespan.db.response.size'),
  /** The SQLSTATE of an error whose db.response.status_code is the vendor's number. */
  sqlState: new AttributeKey('wirespan.db.response.sqlstate', repeats),
  /** Rows that the statement inserted, changed, deleted or copied. */
  affectedRows: new AttributeKey('wirespan.db.response.affected_rows'),
  /** Seconds from the first byte of the statement to the first byte of the first row. */
  timeToFirstRow: new AttributeKey('wirespan.db.response.time_to_first_row', { isDouble: true }),
  /** Whole messages of a call per direction, compressed ones among them, and their bytes as transferred, without prefixes. */
  rpcRequestMessages: new AttributeKey('wirespan.rpc.request.messages'),
  rpcRequestCompressed: new AttributeKey('wirespan.rpc.request.compressed_messages'),
  rpcRequestSize: new AttributeKey('wirespan.rpc.request.size'),
  rpcResponseMessages: new AttributeKey('wirespan.rpc.response.messages'),
  rpcResponseCompressed: new AttributeKey('wirespan.rpc.response.compressed_messages'),
  rpcResponseSize: new AttributeKey('wirespan.rpc.response.size'),
  /** Seconds that the client gave the call (grpc-timeout). */
  rpcTimeout: new AttributeKey('wirespan.rpc.timeout', { isDouble: true }),
  /** The call goes on: a span of its own comes at its end. */
  rpcInterim: new AttributeKey('wirespan.rpc.interim', repeats),
  /** Seconds from the first byte of the request to the first byte of the first message of the response. */
  timeToFirstMessage: new AttributeKey('wirespan.rpc.response.time_to_first_message', { isDouble: true }),
  /** How the transaction block stood when the statement began: `idle`, `active`, `failed`. */
  transaction: new AttributeKey('wirespan.db.transaction', repeats),
  /** Messages that an endpoint of a WebSocket connection sent, and bytes of their payload as transferred. */
  webSocketClientMessages: new AttributeKey('wirespan.websocket.client.messages'),
  webSocketClientSize: new AttributeKey('wirespan.websocket.client.size'),
  webSocketServerMessages: new AttributeKey('wirespan.websocket.server.messages'),
  webSocketServerSize: new AttributeKey('wirespan.websocket.server.size'),
  /** There were compressed messages. */
  webSocketCompressed: new AttributeKey('wirespan.websocket.compressed', repeats),
  /** Why it was closed (RFC 6455 section 7.4), and by whom: `client`, `server`. */
  webSocketCloseCode: new AttributeKey('wirespan.websocket.close.code', repeats),
  webSocketClosedBy: new AttributeKey('wirespan.websocket.close.initiator', repeats),
  /** `client` or `server`: what this span would be, had the application not made one of its own of the same exchange. */
  spanKind: new AttributeKey('wirespan.span.kind', repeats),
  /** The connection is older than the observation of it, so what was said before is not known. */
  connectionJoined: new AttributeKey('wirespan.connection.joined', repeats),
  /** Why the exchange is not whole, an IncompleteReason. */
  incomplete: new AttributeKey('wirespan.exchange.incomplete', repeats),
} as const;
