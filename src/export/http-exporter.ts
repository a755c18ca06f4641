import * as http from 'node:http';
import * as https from 'node:https';
import { promisify } from 'node:util';
import { gzip } from 'node:zlib';
import { ProtobufTraceSerializer } from '@opentelemetry/otlp-transformer';
import { type Batch, type BatchExporter, type ExportOutcome, MAX_REASON_LENGTH, type NotDelivered } from './batch.ts';
import { statusMessage } from './grpc-status.ts';
import { type OtlpSettings, readTlsFiles } from './otlp-settings.ts';

const compress = promisify(gzip);

const PROTOBUF = 'application/x-protobuf';
/** More than this of an answer is not read. */
const MAX_ANSWER_BYTES = 4 * 1024 * 1024;
/** "OTLP/HTTP Response", "Retryable Response Codes". */
const RETRYABLE: ReadonlySet<number> = new Set([429, 502, 503, 504]);
/** Connections that were left open and that the backend has closed since. */
const MAX_STALE_CONNECTIONS = 16;

interface Answer {
  readonly status: number;
  readonly statusText: string;
  readonly retryAfter: string | undefined;
  readonly contentType: string;
  readonly body: Buffer;
}

/**
 * OTLP over HTTP/1.1 with protobuf bodies (https://opentelemetry.io/docs/specs/otlp/#otlphttp). It does not retry.
 *
 * OpenTelemetry's own transport is not used: it tries again by itself, each request for its own, and keeps from its caller how long the
 * backend asks to wait; its time-out is that of a silent connection, not of the request.
 */
export class HttpTraceExporter implements BatchExporter {
  readonly #settings: OtlpSettings;
  readonly #url: URL;
  readonly #request: typeof http.request;
  readonly #agent: http.Agent;
  readonly #headers: Readonly<Record<string, string>>;

  /** @throws Error that names a file that cannot be read */
  constructor(settings: OtlpSettings) {
    this.#settings = settings;
    this.#url = new URL(settings.url);
    if (this.#url.protocol === 'https:') {
      this.#request = https.request;
      this.#agent = new https.Agent({ keepAlive: true, ...readTlsFiles(settings) });
    } else {
      this.#request = http.request;
      this.#agent = new http.Agent({ keepAlive: true });
    }
    this.#headers = {
      ...Object.fromEntries(settings.headers),
      'content-type': PROTOBUF,
      'user-agent': settings.userAgent,
      ...(settings.compression === 'gzip' && { 'content-encoding': 'gzip' }),
    };
  }

  exportBatch(batch: Batch, done: (outcome: ExportOutcome) => void): void {
    this.#send(batch).then(done, (error: unknown) => done(unanswered(error)));
  }

  shutdown(): Promise<void> {
    this.#agent.destroy();
    return Promise.resolve();
  }

  async #send(batch: Batch): Promise<ExportOutcome> {
    const deadlineMs = performance.now() + this.#settings.timeoutMs;
    const body = await this.#bodyOf(batch);
    for (let stale = 0; ; stale++) {
      const answer = await this.#ask(body, deadlineMs - performance.now());
      if (answer !== 'stale connection') return outcomeOf(answer);
      if (stale === MAX_STALE_CONNECTIONS) return unanswered(new Error('connections that were open are closed'));
    }
  }

  /** A copy: the payload is another's to fill again once we are done, and a request that was given up may still hold its bytes. */
  async #bodyOf({ payload }: Batch): Promise<Buffer> {
    const encoded = Buffer.isBuffer(payload) ? payload : ProtobufTraceSerializer.serializeRequest(payload);
    if (encoded === undefined) throw new Error('the spans cannot be encoded');
    return this.#settings.compression === 'gzip' ? await compress(encoded) : Buffer.from(encoded);
  }

  #ask(body: Buffer, timeoutMs: number): Promise<Answer | 'stale connection'> {
    const { promise, resolve, reject } = Promise.withResolvers<Answer | 'stale connection'>();
    const headers = { ...this.#headers, 'content-length': body.length };
    const request = this.#request(this.#url, { method: 'POST', agent: this.#agent, headers });
    const timer = setTimeout(
      () => request.destroy(new Error(`no answer within ${this.#settings.timeoutMs} ms`)),
      Math.max(0, timeoutMs),
    );
    void promise.catch(() => {}).then(() => clearTimeout(timer));
    request.on('error', (error: NodeJS.ErrnoException) => {
      // "http.ClientRequest.reusedSocket": the backend closed the connection as the request was on its way.
      const isStale = request.reusedSocket && (error.code === 'ECONNRESET' || error.code === 'EPIPE');
      if (isStale) resolve('stale connection');
      else reject(error);
    });
    request.on('response', (response) => {
      const chunks: Buffer[] = [];
      let length = 0;
      const finish = (): void => resolve(answerOf(response, Buffer.concat(chunks)));
      response.on('data', (chunk: Buffer) => {
        length += chunk.length;
        if (length <= MAX_ANSWER_BYTES) chunks.push(chunk);
        else response.destroy();
      });
      // The status says what became of the spans, also where the rest of the answer is lost.
      response.on('error', finish).on('close', finish);
    });
    request.end(body);
    return promise;
  }
}

function answerOf(response: http.IncomingMessage, body: Buffer): Answer {
  const { statusCode = 0, statusMessage: statusText = '', headers } = response;
  return {
    status: statusCode,
    statusText,
    retryAfter: headers['retry-after'],
    contentType: headers['content-type'] ?? '',
    body,
  };
}

function outcomeOf(answer: Answer): ExportOutcome {
  const { status, statusText, contentType, body } = answer;
  if (status >= 200 && status < 300) return accepted(body);
  const message = contentType.startsWith(PROTOBUF) ? statusMessage(body) : '';
  const retryable = RETRYABLE.has(status);
  return {
    delivered: false,
    failure: {
      status: `HTTP ${status}`,
      retryable,
      retryDelayMs: retryable ? parseRetryAfterMs(answer.retryAfter, Date.now()) : undefined,
    },
    reason: [statusText, message].filter(Boolean).join(': ').slice(0, MAX_REASON_LENGTH),
  };
}

function accepted(body: Buffer): ExportOutcome {
  try {
    const partial = ProtobufTraceSerializer.deserializeResponse(body).partialSuccess;
    return { delivered: true, rejected: partial?.rejectedSpans ?? 0, message: partial?.errorMessage ?? '' };
  } catch {
    // An answer that is no message is taken as success, as the specification wants.
    return { delivered: true, rejected: 0, message: '' };
  }
}

/** Without an answer it is the connection that failed, which may pass. */
function unanswered(error: unknown): NotDelivered {
  const reason = error instanceof Error ? error.message : String(error);
  return {
    delivered: false,
    failure: { status: 'error', retryable: true, retryDelayMs: undefined },
    reason: reason.slice(0, MAX_REASON_LENGTH),
  };
}

/**
 * Retry-After: seconds or a date (RFC 9110 section 10.2.3).
 * @returns undefined when it is neither
 */
export function parseRetryAfterMs(text: string | undefined, nowMs: number): number | undefined {
  if (text === undefined) return undefined;
  if (/^\d{1,9}$/.test(text.trim())) return Number(text) * 1000;
  const dateMs = Date.parse(text);
  return Number.isNaN(dateMs) ? undefined : Math.max(0, dateMs - nowMs);
}
