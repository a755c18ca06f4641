/**
 * What to do about an export that fails, derived from what the status and the reason say. The reasons are the words of OpenSSL, Node and
 * gRPC; a backend's own words are matched too, which at worst gives advice that does not fit.
 */

interface Case {
  readonly pattern: RegExp;
  readonly advice: string;
}

/** The first that matches `STATUS reason`. */
const CASES: readonly Case[] = [
  {
    pattern: /self[- ]signed certificate|unable to (?:verify the first|get (?:local )?issuer) certificate/i,
    advice:
      'the certificate of the backend is not of an authority that is trusted here: name the PEM file of that authority in otlp.ca_file or OTEL_EXPORTER_OTLP_CERTIFICATE',
  },
  {
    pattern: /does not match certificate's altnames|altname/i,
    advice: 'the certificate of the backend is for other names: write the endpoint with one of these',
  },
  {
    pattern: /certificate (?:has expired|is not yet valid)/i,
    advice: 'the certificate of the backend is out of date, or the clock of this machine is wrong',
  },
  {
    pattern:
      /alert (?:certificate required|bad certificate|unknown ca|handshake failure|certificate (?:unknown|expired)|access denied)|(?:bad|unknown) certificate|certificate required/i,
    advice:
      'the backend wants another client certificate: name one that it trusts, and its key, in otlp.cert_file and otlp.key_file or OTEL_EXPORTER_OTLP_CLIENT_CERTIFICATE and OTEL_EXPORTER_OTLP_CLIENT_KEY',
  },
  {
    pattern: /wrong version number|packet length too long|http request/i,
    advice: 'the backend does not speak TLS at this port: write the endpoint with http://, or another port',
  },
  {
    pattern: /ENOTFOUND|EAI_AGAIN|name resolution failed/i,
    advice: 'the name in the endpoint cannot be resolved: check it, and DNS',
  },
  {
    pattern: /ECONNREFUSED/i,
    advice: 'nothing listens at the endpoint: check its host and port, and that the backend runs',
  },
  { pattern: /^(?:UNAUTHENTICATED|HTTP 401)/, advice: 'the backend wants credentials: check the headers' },
  { pattern: /^(?:PERMISSION_DENIED|HTTP 403)/, advice: 'the backend does not allow it: check the headers' },
  {
    pattern: /^(?:UNIMPLEMENTED|HTTP (?:404|405|30\d))/,
    advice:
      'no OTLP of this signal at this place: check that the backend takes it, and protocol, port (usually 4317 for grpc, 4318 for http/protobuf) and path of the endpoint',
  },
  {
    pattern: /^HTTP 415/,
    advice: 'the backend takes no protobuf at this place: check protocol and path of the endpoint',
  },
  {
    pattern: /^(?:HTTP 413)|larger than max|message (?:larger|too large)/i,
    advice: 'the backend takes smaller requests only: for spans, lower export.batch_spans',
  },
  {
    pattern: /ECONNRESET|socket hang up|connection dropped|protocol error|failed to connect/i,
    advice:
      'the connection was cut: is it the right port for this protocol (usually 4317 for grpc, 4318 for http/protobuf), with TLS or without, and does the backend trust the client certificate?',
  },
  {
    pattern: /^DEADLINE_EXCEEDED|no answer within/,
    advice: 'the backend is too slow, or what lies between holds the data back',
  },
];

/** @returns undefined when nothing is known */
export function adviceFor(status: string, reason: string): string | undefined {
  const text = `${status} ${reason}`;
  return CASES.find(({ pattern }) => pattern.test(text))?.advice;
}
