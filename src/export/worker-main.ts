/** The export thread: what speaks OTLP, and nothing else. See worker-exporter.ts. */
import { parentPort, workerData } from 'node:worker_threads';
import type { OtlpSettings } from './otlp-settings.ts';
import { RenewedExporter } from './renewed-exporter.ts';
import type { WorkerRequest, WorkerResponse } from './worker-exporter.ts';

// grpc-js names the server by its address where the endpoint is one, and Node would warn of it on standard error, each time.
process.noDeprecation = true;
const exporter = new RenewedExporter(workerData as OtlpSettings);
const port = parentPort!;

port.on('message', ({ id, payload, spans }: WorkerRequest) => {
  const { buffer, byteOffset, byteLength } = payload;
  const batch = { payload: Buffer.from(buffer as ArrayBuffer, byteOffset, byteLength), spans, byteLength };
  exporter.exportBatch(batch, (outcome) => {
    const response: WorkerResponse = { id, outcome };
    port.postMessage(response);
  });
});
