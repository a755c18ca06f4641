import { readFileSync } from 'node:fs';
import type { Config } from '../config/schema.ts';
import { whyNot } from '../config/system-error.ts';

/** Where one backend is and how it is spoken to: complete, and plain data, so that it can be handed to a thread. */
export interface OtlpSettings {
  readonly signal: Signal;
  readonly protocol: 'grpc' | 'http/protobuf';
  readonly url: string;
  /** Secrets. */
  readonly headers: readonly (readonly [string, string])[];
  readonly compression: 'none' | 'gzip';
  readonly timeoutMs: number;
  /** Only of a gRPC endpoint without scheme. */
  readonly insecure: boolean;
  readonly caFile: string | undefined;
  readonly certFile: string | undefined;
  readonly keyFile: string | undefined;
  readonly userAgent: string;
}

export type Signal = 'traces' | 'metrics';

/** `otlp` of the configuration, or an entry of `otlp_copies`. */
export type OtlpDestination = Config['otlp'] | Config['otlpCopies'][number];

const DEFAULT_URL = { grpc: 'http://localhost:4317', 'http/protobuf': 'http://localhost:4318' } as const;

/** @throws Error that says what is wrong, and quotes nothing that may be a secret */
export function otlpSettings(destination: OtlpDestination, userAgent: string, signal: Signal = 'traces'): OtlpSettings {
  const { protocol, headers, compression, timeoutMs, insecure, caFile, certFile, keyFile } = destination;
  const url = urlOf(protocol, destination.endpoint?.trim() ?? DEFAULT_URL[protocol], signal);
  if ((certFile === undefined) !== (keyFile === undefined)) {
    throw new Error(
      'cert_file (OTEL_EXPORTER_OTLP_CLIENT_CERTIFICATE) and key_file (OTEL_EXPORTER_OTLP_CLIENT_KEY) belong together: one of them is missing',
    );
  }
  return { signal, protocol, url, headers, compression, timeoutMs, insecure, caFile, certFile, keyFile, userAgent };
}

function urlOf(protocol: OtlpSettings['protocol'], endpoint: string, signal: Signal): string {
  const hasScheme = /^https?:\/\//i.test(endpoint);
  if (protocol === 'grpc') {
    const bare = !endpoint.includes(':/') && URL.canParse(`https://${endpoint}`);
    if (bare || endpoint.startsWith('unix://') || (hasScheme && URL.canParse(endpoint))) return endpoint;
    throw new Error('the endpoint is none for gRPC: expected http://HOST:PORT, https://HOST:PORT or HOST:PORT');
  }
  if (!hasScheme || !URL.canParse(endpoint)) {
    throw new Error('the endpoint is none for http/protobuf: expected http://HOST:PORT or https://HOST:PORT');
  }
  return /^\w+:\/\/[^/?#]+$/.test(endpoint) ? `${endpoint}/v1/${signal}` : endpoint;
}

/** Where metrics go: to a backend of their own, else to that of spans. */
export function metricsDestination({ otlp, otlpMetrics }: Pick<Config, 'otlp' | 'otlpMetrics'>): OtlpDestination {
  if (otlpMetrics !== undefined) return otlpMetrics;
  return { ...otlp, endpoint: otlp.endpoint?.trim().replace(/\/v1\/traces$/, '/v1/metrics') };
}

/** For messages: without user information and query, which may be secrets. */
export function shownEndpoint(url: string): string {
  return url.replace(/^(\w+:\/\/)?[^/?#]*@/, '$1').replace(/[?#].*$/s, '');
}

export interface TlsFiles {
  readonly ca: Buffer | undefined;
  readonly cert: Buffer | undefined;
  readonly key: Buffer | undefined;
}

/** "A scheme of https indicates a secure connection", and goes before `insecure`; without scheme gRPC is secure. */
export function usesTls({ protocol, url, insecure }: OtlpSettings): boolean {
  if (/^https:/i.test(url)) return true;
  return protocol === 'grpc' && !/^http:/i.test(url) && !insecure;
}

/** @throws Error that names the file that cannot be read */
export function readTlsFiles(settings: OtlpSettings): TlsFiles {
  if (!usesTls(settings)) return { ca: undefined, cert: undefined, key: undefined };
  return {
    ca: readPem('ca_file', settings.caFile, 'CERTIFICATE'),
    cert: readPem('cert_file', settings.certFile, 'CERTIFICATE'),
    key: readPem('key_file', settings.keyFile, 'PRIVATE KEY'),
  };
}

function readPem(option: string, path: string | undefined, content: string): Buffer | undefined {
  if (path === undefined) return undefined;
  let bytes: Buffer;
  try {
    bytes = readFileSync(path);
  } catch (error) {
    throw new Error(`${option} ${path} cannot be read: ${whyNot(error, 'read')}`);
  }
  if (!bytes.includes(`${content}-----`))
    throw new Error(`${option} ${path} holds no ${content.toLowerCase()} in PEM form`);
  return bytes;
}
