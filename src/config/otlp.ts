import { z } from 'zod';

/** A backend that speaks OTLP: the keys of `otlp` and of each entry of `otlp_copies`. */

export const otlpProtocols = ['grpc', 'http/protobuf'] as const;
export const otlpCompressions = ['none', 'gzip'] as const;

export const MAX_TIMEOUT_MS = 600_000;
const MAX_HEADERS = 64;
const MAX_COPIES = 7;

/** A token of RFC 9110 section 5.1; gRPC takes names that end in -bin for binary values, which this is no place for. */
const headerNamePattern = /^(?!.*-bin$)[!#$%&'*+.^_`|~0-9A-Za-z-]+$/i;
/** What gRPC and HTTP both carry. */
const headerValuePattern = /^[\x20-\x7e]*$/;

export function isHeaderName(text: string): boolean {
  return headerNamePattern.test(text);
}

export function isHeaderValue(text: string): boolean {
  return headerValuePattern.test(text);
}

/** Their values are secrets: no message may quote them. */
const headers = z
  .record(
    z.string().regex(headerNamePattern, 'expected the name of a header field'),
    z.string().regex(headerValuePattern, 'expected a text of printable ASCII characters'),
  )
  .refine((fields) => Object.keys(fields).length <= MAX_HEADERS, `expected at most ${MAX_HEADERS} header fields`)
  // Pairs, not keys: names of header fields are no names of ours.
  .transform((fields): (readonly [string, string])[] => Object.entries(fields))
  .prefault({})
  .describe('Header fields of every request, such as authorization. Their values appear nowhere else.');

const endpointForms =
  '`http://HOST:PORT` or `https://HOST:PORT`; http/protobuf without a path gets `/v1/traces`, gRPC takes `HOST:PORT` (TLS) and `unix:` too.';

const connectionShape = {
  protocol: z.enum(otlpProtocols).default('grpc').describe('How it is spoken to.'),
  headers,
  compression: z.enum(otlpCompressions).default('none').describe('Compression of requests.'),
  timeout_ms: z
    .int()
    .min(1)
    .max(MAX_TIMEOUT_MS)
    .default(10_000)
    .describe('A request that is not answered within this time is sent again.'),
  ca_file: z
    .string()
    .min(1)
    .optional()
    .describe(
      'PEM file with the authorities that the certificate of the backend is checked with. Default: those that Node brings.',
    ),
  cert_file: z
    .string()
    .min(1)
    .optional()
    .describe('PEM file with the certificate (chain) that this agent shows, for mutual TLS.'),
  key_file: z.string().min(1).optional().describe('PEM file with the key of that certificate.'),
  insecure: z
    .boolean()
    .default(false)
    .describe('A gRPC endpoint that is written without `http://` or `https://` is spoken to without TLS.'),
};

export const otlpShape = {
  endpoint: z
    .string()
    .min(1)
    .optional()
    .describe(`${endpointForms} Default: port 4317 of localhost for gRPC, 4318 for http/protobuf, without TLS.`),
  ...connectionShape,
};

export const otlpCopies = z
  .array(
    z.strictObject({
      name: z
        .string()
        .regex(/^[A-Za-z0-9][A-Za-z0-9_.-]{0,31}$/, 'expected a name of letters, digits, _ . and -')
        .describe('What it is called in messages, in statistics (`otlp:NAME`) and in the spool.'),
      endpoint: z.string().min(1).describe(endpointForms),
      ...connectionShape,
    }),
  )
  .max(MAX_COPIES)
  .refine(
    (copies) => new Set(copies.map(({ name }) => name)).size === copies.length,
    'expected a different name for each',
  )
  .prefault([])
  .describe(
    'Further backends that get every span as well, when `otlp` is among the outputs, each with a queue of its own. The keys of an entry: `name`, and those of `otlp`, of which `endpoint` is needed. They take nothing from the environment.',
  );
