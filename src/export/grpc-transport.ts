/**
 * The way of an encoded request to gRPC without a copy of it.
 *
 * OpenTelemetry's own transport copies each request, and grpc-js copies it again to put five bytes before it: a megabyte of garbage for
 * a batch of 600 KB. The collector that runs over the heap because of it costs more than the sending. Here the five bytes have their
 * place before the request since it was written. Everything else is as there: configuration, credentials, metadata, client.
 */
import { Client, compressionAlgorithms, type Metadata, status } from '@grpc/grpc-js';
import { CompressionFilter } from '@grpc/grpc-js/build/src/compression-filter.js';
import type { ExportResponse, IExporterTransport } from '@opentelemetry/otlp-exporter-base';
import type { convertLegacyOtlpGrpcOptions } from '@opentelemetry/otlp-grpc-exporter-base';
import base from '@opentelemetry/otlp-grpc-exporter-base/package.json' with { type: 'json' };
import { PREFIX_BYTES } from './otlp-encoder.ts';

export type GrpcOptions = ReturnType<typeof convertLegacyOtlpGrpcOptions>;

const USER_AGENT = `OTel-OTLP-Exporter-JavaScript/${base.version}`;
/** After so many calls that took too long a new client is made, as OpenTelemetry's transport does. */
const MAX_DEADLINES = 5;

/** Requests under way, and where each begins with its prefix. */
const frames = new WeakMap<Buffer, Buffer>();

interface CompressionHandler {
  writeMessage(message: Buffer, compress: boolean): Promise<Buffer>;
}

/**
 * Lets grpc-js take frames that are there already. Where it is built otherwise than its version in package-lock.json nothing is changed, and
 * it copies.
 *
 * @returns whether it was possible
 */
function acceptFrames(): boolean {
  const { sendCompression } = new CompressionFilter({}, {}) as unknown as { sendCompression?: CompressionHandler };
  if (typeof sendCompression?.writeMessage !== 'function') return false;
  const identity = Object.getPrototypeOf(sendCompression) as CompressionHandler;
  const { writeMessage } = identity;
  identity.writeMessage = async function (message, compress) {
    return frames.get(message) ?? writeMessage.call(this, message, compress);
  };
  return true;
}

/** grpc-js does not copy requests. */
export const acceptsFrames = acceptFrames();

const identity = (bytes: Buffer): Buffer => bytes;

export class GrpcTransport implements IExporterTransport {
  private readonly options: GrpcOptions;
  private readonly path: string;
  private client: Client | undefined;
  private metadata: Metadata | undefined;
  private deadlines = 0;

  /** @param path of the method */
  constructor(options: GrpcOptions, path: string) {
    this.options = options;
    this.path = path;
  }

  /** @param data in shared memory it lies behind PREFIX_BYTES, which are written to; any other is copied */
  send(data: Uint8Array, timeoutMs: number): Promise<ExportResponse> {
    const request = data as Buffer;
    let client: Client;
    let metadata: Metadata;
    try {
      client = this.client ??= this.connect();
      metadata = this.metadata ??= this.options.metadata();
    } catch (error) {
      return Promise.resolve({ status: 'failure', error: error as Error });
    }
    if (request.buffer instanceof SharedArrayBuffer) frames.set(request, framed(request, request.buffer));
    const deadline = Date.now() + timeoutMs;
    return new Promise((resolve) => {
      client.makeUnaryRequest(this.path, identity, identity, request, metadata, { deadline }, (error, response) => {
        if (error === null) {
          this.deadlines = 0;
          resolve({ status: 'success', ...(response !== undefined && { data: response }) });
          return;
        }
        if (error.code === status.DEADLINE_EXCEEDED && ++this.deadlines > MAX_DEADLINES && this.client === client) {
          this.shutdown();
        }
        resolve({ status: 'failure', error });
      });
    });
  }

  shutdown(): void {
    this.client?.close();
    this.client = undefined;
    this.deadlines = 0;
  }

  private connect(): Client {
    const { url, credentials, compression, userAgent } = this.options;
    return new Client(url, credentials(), {
      'grpc.default_compression_algorithm':
        compression === 'gzip' ? compressionAlgorithms.gzip : compressionAlgorithms.identity,
      'grpc.primary_user_agent': userAgent === undefined ? USER_AGENT : `${userAgent} ${USER_AGENT}`,
    });
  }
}

/** The message with its prefix: not compressed, its length. */
function framed({ byteOffset, length }: Buffer, memory: SharedArrayBuffer): Buffer {
  const frame = Buffer.from(memory, byteOffset - PREFIX_BYTES, PREFIX_BYTES + length);
  frame[0] = 0;
  frame.writeUInt32BE(length, 1);
  return frame;
}
