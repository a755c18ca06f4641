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
export const GRPC_CAPTURES = ['Server_Streaming.pcapng'] as const;

/** The captures that hold HTTP/2. */
export const HTTP2_CAPTURES = ['http2-continuation.pcap', 'Server_Streaming.pcapng'] as const;

/** The captures that hold HTTP/1, by their names under data/. */
export const CAPTURES = [
  'http-multiple100.pcap',
  'http-protocol-nodup.pcap',
  'http__1000-requests-one-dropped-response.pcap.gz',
  'http__docker-http-upgrade.pcap',
  'http_ua_splitted_in_two_pkts.pcapng',
  'tls12-dsb.pcapng',
  'tls__tls-1.2-stream-keylog.pcap',
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
