/**
 * A small OTLP/gRPC trace receiver, the child process of sink.ts. It counts the spans of a request without decoding them, so that it
 * costs little beside what is measured. HTTP/2 without TLS; gzip is understood.
 */
import { appendFileSync } from 'node:fs';
import { createServer, type ServerHttp2Stream } from 'node:http2';
import { gunzipSync } from 'node:zlib';

interface Totals {
  requests: number;
  spans: number;
  bytes: number;
  refused: number;
}
const totals: Totals = { requests: 0, spans: 0, bytes: 0, refused: 0 };
/** Where the requests are appended to, undone of gRPC's framing and compression. */
const dumpFile = process.argv[3] || undefined;
/** The next so many requests are answered with this gRPC status instead. */
let refusal = { status: 0, left: 0, delayMs: 0 };

/** Calls back for each length-delimited field `wanted` of a protobuf message in `bytes[at..end)`; all others are stepped over. */
function eachField(
  bytes: Buffer,
  start: number,
  end: number,
  wanted: number,
  found: (start: number, end: number) => void,
): void {
  let at = start;
  const varint = (): number => {
    let value = 0;
    for (let scale = 1; at < end; scale *= 128) {
      const byte = bytes[at++]!;
      value += (byte & 0x7f) * scale;
      if (byte < 0x80) break;
    }
    return value;
  };
  while (at < end) {
    const tag = varint();
    const wireType = tag & 7;
    if (wireType === 0) varint();
    else if (wireType === 1) at += 8;
    else if (wireType === 5) at += 4;
    else {
      const length = varint();
      if (tag >>> 3 === wanted) found(at, at + length);
      at += length;
    }
  }
}

/** ExportTraceServiceRequest.resource_spans = 1, ResourceSpans.scope_spans = 2, ScopeSpans.spans = 2. */
function countSpans(message: Buffer): number {
  let spans = 0;
  eachField(message, 0, message.length, 1, (resourceStart, resourceEnd) => {
    eachField(message, resourceStart, resourceEnd, 2, (scopeStart, scopeEnd) => {
      eachField(message, scopeStart, scopeEnd, 2, () => {
        spans += 1;
      });
    });
  });
  return spans;
}

function answer(stream: ServerHttp2Stream, status: number): void {
  if (stream.destroyed) return;
  stream.respond({ ':status': 200, 'content-type': 'application/grpc+proto' }, { waitForTrailers: true });
  stream.on('wantTrailers', () => stream.sendTrailers({ 'grpc-status': String(status) }));
  // A gRPC message: no compression, length 0 (an empty ExportTraceServiceResponse).
  stream.end(status === 0 ? Buffer.alloc(5) : undefined);
}

// As large as those that gRPC servers grow to; with HTTP/2's own 64 KiB every batch would take many turns.
const WINDOW_BYTES = 1024 * 1024;
const server = createServer({ settings: { initialWindowSize: WINDOW_BYTES } });
server.on('session', (session) => session.setLocalWindowSize(4 * WINDOW_BYTES));
server.on('stream', (stream) => {
  const chunks: Buffer[] = [];
  stream.on('error', () => {});
  stream.on('data', (chunk: Buffer) => chunks.push(chunk));
  stream.on('end', () => {
    if (refusal.left > 0) {
      refusal.left -= 1;
      totals.refused += 1;
      setTimeout(answer, refusal.delayMs, stream, refusal.status);
      return;
    }
    const body = Buffer.concat(chunks);
    const message = body[0] === 1 ? gunzipSync(body.subarray(5)) : body.subarray(5);
    if (dumpFile !== undefined) appendFileSync(dumpFile, message);
    totals.requests += 1;
    totals.bytes += body.length;
    totals.spans += countSpans(message);
    answer(stream, 0);
  });
});

process.on(
  'message',
  (command: { ask: 'totals' | 'reset' } | { ask: 'refuse'; status: number; times: number; delayMs: number }) => {
    if (command.ask === 'reset') Object.assign(totals, { requests: 0, spans: 0, bytes: 0, refused: 0 });
    if (command.ask === 'refuse') refusal = { status: command.status, left: command.times, delayMs: command.delayMs };
    const { user, system } = process.cpuUsage();
    process.send?.({ ...totals, cpuSeconds: (user + system) / 1e6 });
  },
);
process.on('disconnect', () => process.exit(0));
server.listen(Number(process.argv[2] ?? 0), process.argv[4] ?? '127.0.0.1', () => {
  const address = server.address();
  process.send?.({ port: typeof address === 'object' && address ? address.port : 0 });
});
