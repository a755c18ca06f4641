import type { LimitDefinitions, LimitValues } from '../../config/define.ts';

/** Shared by all that runs on HTTP. */
export const httpLimits = {
  httpHeaderBytes: {
    value: 1024 * 1024,
    unit: 'bytes',
    meaning: 'Bytes of one HTTP header block: start line and fields.',
    counted: 'incomplete: limit',
  },
  httpPipelineDepth: {
    value: 16_384,
    unit: 'count',
    meaning: 'HTTP requests of one connection that wait for their response.',
    counted: 'connections.givenUp: pipeline_limit',
  },
  httpResponseUs: {
    value: 3_600_000_000,
    unit: 'us',
    meaning: 'An HTTP request that is not answered is given up after this time.',
    counted: 'incomplete: timeout',
    atMost: 'idleUs',
  },
  httpOrphanResponses: {
    value: 16,
    unit: 'count',
    meaning: 'Responses kept per connection whose request has not been seen yet.',
    counted: 'incomplete: request_not_seen',
  },
  httpParseErrors: {
    value: 16,
    unit: 'count',
    meaning: 'Messages of one connection that could not be parsed before the connection is given up.',
    counted: 'connections.givenUp: protocol_error',
  },
  httpQuietUs: {
    value: 1_000_000,
    unit: 'us',
    meaning: 'Silence after which a connection that pipelines its requests is taken to be between two exchanges.',
    counted: 'incomplete: gap',
  },
  http2Streams: {
    value: 10_000,
    unit: 'count',
    meaning: 'Streams of one HTTP/2 connection at once. Requests beyond have a span without a response.',
    counted: 'incomplete: limit',
  },
  http2TableBytes: {
    value: 65_536,
    unit: 'bytes',
    meaning:
      "Bytes of HPACK's dynamic table that are kept per direction, whatever the peers agree on. What lies beyond is not known.",
    counted: 'incomplete: gap',
  },
  http2HeaderFields: {
    value: 256,
    unit: 'count',
    meaning: 'Fields of one HTTP/2 header list that are kept.',
    counted: 'incomplete: limit',
  },
  http2LostStreamUs: {
    value: 3_600_000_000,
    unit: 'us',
    meaning: 'An HTTP/2 stream whose end may lie in a hole is given up after this time of silence.',
    counted: 'incomplete: gap',
  },
} as const satisfies LimitDefinitions;

export type HttpLimits = LimitValues<typeof httpLimits>;
