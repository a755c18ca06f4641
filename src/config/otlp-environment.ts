import { isHeaderName, isHeaderValue, MAX_TIMEOUT_MS, otlpCompressions } from './otlp.ts';
import type { ConfigFile } from './schema.ts';

type Environment = Readonly<Record<string, string | undefined>>;
/** Their variables go before those of all. */
type Signal = 'TRACES' | 'METRICS';
type OtlpValues = NonNullable<ConfigFile['otlp']>;

/**
 * The exporter's variables (https://opentelemetry.io/docs/specs/otel/protocol/exporter/), as values of `otlp`. Those of
 * OTEL_EXPORTER_OTLP_TRACES_ (or METRICS_) go before those of OTEL_EXPORTER_OTLP_; header fields of both are joined. One that cannot be used is as if
 * it were not set, and warned of. No warning quotes a value: it may be a secret.
 */
export function readOtlpVariables(environment: Environment, warnings: string[], signal: Signal = 'TRACES'): OtlpValues {
  /** The first of both that is set and that `read` accepts. */
  const first = <T>(option: string, read: (text: string) => T | undefined, expected: string): T | undefined => {
    for (const name of [`OTEL_EXPORTER_OTLP_${signal}_${option}`, `OTEL_EXPORTER_OTLP_${option}`]) {
      const text = environment[name]?.trim() ?? '';
      if (text === '') continue;
      const value = read(text);
      if (value !== undefined) return value;
      warnings.push(`${name}: expected ${expected}; ignored`);
    }
    return undefined;
  };
  const protocol = first('PROTOCOL', readProtocol, 'grpc or http/protobuf');
  const asIs = (text: string): string => text;
  if (protocol?.json === true) warnings.push('OTEL_EXPORTER_OTLP_PROTOCOL: http/json is sent as http/protobuf');
  const values: Record<keyof OtlpValues, unknown> = {
    endpoint: readEndpoint(environment, signal),
    protocol: protocol?.name,
    headers: readHeaders(environment, warnings, signal),
    compression: first('COMPRESSION', (text) => otlpCompressions.find((name) => name === text), 'gzip or none'),
    timeout_ms: first('TIMEOUT', readTimeout, `a whole number from 1 to ${MAX_TIMEOUT_MS}`),
    ca_file: first('CERTIFICATE', asIs, ''),
    cert_file: first('CLIENT_CERTIFICATE', asIs, ''),
    key_file: first('CLIENT_KEY', asIs, ''),
    insecure: first('INSECURE', readBoolean, 'true or false'),
  };
  return Object.fromEntries(Object.entries(values).filter(([, value]) => value !== undefined)) as OtlpValues;
}

function readProtocol(text: string): { name: 'grpc' | 'http/protobuf'; json: boolean } | undefined {
  if (text === 'grpc' || text === 'http/protobuf') return { name: text, json: false };
  // A server that takes JSON takes protobuf at the same place: the specification requires it.
  return text === 'http/json' ? { name: 'http/protobuf', json: true } : undefined;
}

/**
 * "Endpoint URLs for OTLP/HTTP": the general endpoint is a base to which the signal's path is added, that for traces is used as it is, and
 * has the path / when it has none. gRPC has no use for paths.
 */
function readEndpoint(environment: Environment, signal: Signal): string | undefined {
  const own = environment[`OTEL_EXPORTER_OTLP_${signal}_ENDPOINT`]?.trim() ?? '';
  if (own !== '') return isHttpUrl(own) && !/^\w+:\/\/[^/?#]+[/?#]/.test(own) ? `${own}/` : own;
  const general = environment.OTEL_EXPORTER_OTLP_ENDPOINT?.trim() ?? '';
  if (general === '') return undefined;
  return isHttpUrl(general) ? `${general.replace(/\/$/, '')}/v1/${signal.toLowerCase()}` : general;
}

function isHttpUrl(text: string): boolean {
  return /^https?:\/\//i.test(text);
}

/** "Specifying headers via environment variables": W3C baggage without properties, values percent-encoded. */
function readHeaders(environment: Environment, warnings: string[], signal: Signal): Record<string, string> | undefined {
  const headers: Record<string, string> = {};
  for (const name of ['OTEL_EXPORTER_OTLP_HEADERS', `OTEL_EXPORTER_OTLP_${signal}_HEADERS`]) {
    const text = environment[name]?.trim() ?? '';
    if (text === '') continue;
    for (const part of text.split(',')) {
      if (part.trim() === '') continue;
      const field = readHeader(part);
      if (field === undefined)
        warnings.push(`${name}: expected KEY=VALUE pairs with commas between them; one is ignored`);
      else headers[field[0]] = field[1];
    }
  }
  return Object.keys(headers).length === 0 ? undefined : headers;
}

function readHeader(text: string): [string, string] | undefined {
  const at = text.indexOf('=');
  if (at < 0) return undefined;
  const name = text.slice(0, at).trim().toLowerCase();
  const value = decoded(text.slice(at + 1).trim());
  return isHeaderName(name) && value !== undefined && isHeaderValue(value) ? [name, value] : undefined;
}

function decoded(text: string): string | undefined {
  try {
    return decodeURIComponent(text);
  } catch {
    return undefined;
  }
}

function readTimeout(text: string): number | undefined {
  const value = /^\d{1,9}$/.test(text) ? Number(text) : 0;
  return value >= 1 && value <= MAX_TIMEOUT_MS ? value : undefined;
}

/** "Boolean": any other value than true, in any case, is false. */
function readBoolean(text: string): boolean | undefined {
  switch (text.toLowerCase()) {
    case 'true':
      return true;
    case 'false':
      return false;
    default:
      return undefined;
  }
}
