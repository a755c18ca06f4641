import { andUnknown, between, type Severity, type Unknown, type Viewer, type ViewTools } from '../../export/view.ts';
import { formatAuthority, parseAuthority, Redactor, Target } from '../../span/url.ts';
import type { HttpConfig, WithHttp } from './config.ts';
import type { HttpExchange } from './exchange.ts';
import { errorType } from './span.ts';

const SLASH = 0x2f;

/** What a person sees of a request and its response. */
export const httpView: Viewer<HttpExchange, WithHttp> = {
  details: {
    method: 'Request method, as on the wire.',
    target: 'Request target in the form that the request has. Secret values and user information are replaced.',
    host: "Server that the client asked for, with its port unless it is the scheme's.",
    statusCode: 'Status of the response.',
    userAgent: 'User-Agent of the request.',
    errorCode: 'HTTP/2 error code that ended the stream or its connection.',
  },
  view(exchange, tools) {
    const { method, statusCode, incomplete, version } = exchange;
    const { text, host } = readTarget(exchange, tools);
    const startUs = exchange.startUs || exchange.responseStartUs || exchange.endUs;
    return {
      protocolVersion: version || undefined,
      label: version === '1.0' ? 'h1.0' : version === '1.1' || version === '' ? 'h1' : `h${version}`,
      startUs,
      endUs: Math.max(exchange.endUs, exchange.responseStartUs, exchange.requestEndUs, startUs),
      open: false,
      summary: `${method || '?'} ${text}`,
      remark: '',
      outcome: statusCode === 0 ? '' : String(statusCode),
      severity: severityOf(statusCode),
      error: errorType(exchange, tools.from),
      incomplete,
      requestBytes: exchange.requestBodyBytes,
      responseBytes: exchange.responseBodyBytes,
      requestUs: between(exchange.startUs, exchange.requestEndUs),
      firstByteUs: between(exchange.startUs, exchange.responseStartUs),
      firstRowUs: undefined,
      firstMessageUs: undefined,
      details: {
        method: method || undefined,
        target: text,
        host,
        statusCode: statusCode || undefined,
        userAgent: exchange.requestHeaders.get('user-agent')?.[0],
        errorCode: exchange.errorCode || undefined,
      },
      unknown: unknownOf(exchange),
    };
  },
};

/** To be parsed into. */
const parsed = new Target();
const redactors = new WeakMap<HttpConfig, Redactor>();

/** @returns what is redacted in targets, as in spans */
function redactorOf(config: HttpConfig): Redactor {
  let redactor = redactors.get(config);
  if (redactor === undefined) {
    redactor = new Redactor(config.redactQueryKeys, config.redactPaths);
    redactors.set(config, redactor);
  }
  return redactor;
}

/** @returns the redacted target, and the server's name and port as the client asked for them */
export function readTarget(
  { method, target, requestHeaders, scheme, connection }: HttpExchange,
  { spans, config }: ViewTools<WithHttp>,
): { text: string; host: string | undefined } {
  const isPath = target.charCodeAt(0) === SLASH;
  let text = spans[0]?.summary;
  let authority = '';
  if (text === undefined || !isPath) {
    parsed.parse(method, target, redactorOf(config.http));
    text = parsed.readable;
    authority = parsed.authority;
  }
  const named = parseAuthority((authority || requestHeaders.get('host')?.[0] || '').trim());
  const spoken = scheme || (connection.tls === undefined ? 'http' : 'https');
  return { text, host: named && formatAuthority(named.host, named.port, spoken) };
}

/** What of a request and its response was not seen. */
export function unknownOf({ startUs, responseStartUs, incomplete }: HttpExchange): readonly Unknown[] | undefined {
  let unknown: readonly Unknown[] | undefined;
  if (startUs === 0) unknown = andUnknown(unknown, 'request', 'not_seen');
  if (responseStartUs === 0) return andUnknown(unknown, 'response', incomplete ?? 'not_seen');
  return incomplete === undefined ? unknown : andUnknown(unknown, 'end', incomplete);
}

function severityOf(statusCode: number): Severity {
  if (statusCode === 0 || statusCode >= 500) return 'error';
  return statusCode >= 400 ? 'warning' : 'ok';
}
