/** The export thread: OpenTelemetry's gRPC exporter and nothing else. See worker-exporter.ts. */
import { parentPort, workerData } from 'node:worker_threads';
import { EncodedTraceExporter } from './trace-exporter.ts';
import type { WorkerRequest, WorkerResponse, WorkerSettings } from './worker-exporter.ts';

const { url } = workerData as WorkerSettings;
const exporter = new EncodedTraceExporter(url);
const port = parentPort!;

port.on('message', ({ id, payload, spans }: WorkerRequest) => {
  const { buffer, byteOffset, byteLength } = payload;
  const batch = { payload: Buffer.from(buffer, byteOffset, byteLength), spans, byteLength };
  exporter.exportBatch(batch, (outcome) => {
    const response: WorkerResponse = { id, payload, outcome };
    port.postMessage(response, [buffer]);
  });
});
