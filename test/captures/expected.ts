import { readFileSync } from 'node:fs';

/** The HTTP/1 messages of one TCP stream, in their order; interim responses left out. */
export interface StreamFacts {
  requests: [method: string, target: string][];
  statuses: number[];
}

export interface CaptureFacts {
  /** In the order of their first message. */
  streams: StreamFacts[];
}

/** One stream of HTTP/2; bytes of DATA without padding. */
export interface Http2Facts {
  method: string;
  path: string;
  status: number;
  requestBytes: number;
  responseBytes: number;
}

/** One call of gRPC; bytes without prefixes. */
export interface GrpcFacts {
  requestMessages: number;
  responseMessages: number;
  requestMessageBytes: number;
  responseMessageBytes: number;
}

/** The captures that hold one call of gRPC. */
export const GRPC_CAPTURES = ['grpc-server-streaming.pcapng.gz'] as const;

/** The captures that hold HTTP/2. */
export const HTTP2_CAPTURES = ['http2-continuation.pcap.gz', 'grpc-server-streaming.pcapng.gz'] as const;

/** The captures that hold HTTP/1, by their names under data/. */
export const CAPTURES = [
  'http-two-interim-responses.pcap.gz',
  'http-pipelined-retransmissions.pcap.gz',
  'http-1000-requests-one-lost-segment.pcap.gz',
  'http-upgrade-to-raw-stream.pcap.gz',
  'http-headers-in-two-segments.pcapng.gz',
  'tls12-secrets-in-file.pcapng.gz',
  'tls12-key-log.pcap.gz',
  'tls13-key-log.pcap.gz',
] as const;

/** What tshark said of them; written by facts.ts. */
export function readFacts(): {
  source: string;
  captures: Record<string, CaptureFacts>;
  http2: Record<string, Http2Facts[]>;
  grpc: Record<string, GrpcFacts[]>;
} {
  return JSON.parse(readFileSync(new URL('http.json', import.meta.url), 'utf8')) as ReturnType<typeof readFacts>;
}
