/**
 * `node instrumented-server.mjs HOST PORT` with OTEL_EXPORTER_OTLP_ENDPOINT and UPSTREAM: an application with OpenTelemetry's SDK in it, which
 * makes a SERVER span of each request and, of the one that it sends to UPSTREAM for it, a CLIENT span whose context it writes there. Says
 * `listening PORT`, and `exported N` whenever its exporter was told that N spans have arrived.
 */
import http from 'node:http';
import { propagation, ROOT_CONTEXT, SpanKind, trace } from '@opentelemetry/api';
import { OTLPTraceExporter } from '@opentelemetry/exporter-trace-otlp-grpc';
import { resourceFromAttributes } from '@opentelemetry/resources';
import { NodeTracerProvider, SimpleSpanProcessor } from '@opentelemetry/sdk-trace-node';

const exporter = new OTLPTraceExporter();
let exported = 0;
const counting = {
  export(spans, done) {
    exporter.export(spans, (result) => {
      if (result.code === 0) exported += spans.length;
      console.log(`exported ${exported}`);
      done(result);
    });
  },
  shutdown: () => exporter.shutdown(),
};
const provider = new NodeTracerProvider({
  resource: resourceFromAttributes({ 'service.name': process.env.OTEL_SERVICE_NAME }),
  spanProcessors: [new SimpleSpanProcessor(counting)],
});
provider.register();
const tracer = trace.getTracer('application');
const agent = new http.Agent({ keepAlive: true });

function ask(url, parent) {
  const span = tracer.startSpan('GET', { kind: SpanKind.CLIENT }, parent);
  const headers = {};
  propagation.inject(trace.setSpan(parent, span), headers);
  return new Promise((resolve, reject) => {
    http
      .get(url, { headers, agent }, (response) => {
        response.resume().on('end', () => {
          span.end();
          resolve(response.statusCode);
        });
      })
      .on('error', reject);
  });
}

const [host, port] = process.argv.slice(2);
const server = http.createServer(async (request, response) => {
  const parent = propagation.extract(ROOT_CONTEXT, request.headers);
  const span = tracer.startSpan('GET', { kind: SpanKind.SERVER }, parent);
  const status = await ask(`${process.env.UPSTREAM}${request.url}`, trace.setSpan(parent, span));
  response.on('finish', () => span.end());
  response.writeHead(status, { 'content-length': 0 }).end();
});
server.listen(Number(port), host, () => console.log(`listening ${server.address().port}`));
process.on('SIGTERM', () => process.exit(0));
