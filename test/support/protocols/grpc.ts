/** Writes gRPC and gRPC-Web, on HTTP/2. */
import type { GrpcExchange } from '../../../src/protocol/grpc/exchange.ts';
import { createGrpcProtocol } from '../../../src/protocol/grpc/protocol.ts';
import { statusName } from '../../../src/protocol/grpc/status.ts';
import { createHttp2Protocol } from '../../../src/protocol/http2/protocol.ts';
import { Bench, keepHeaders } from './cases.ts';
import { END_HEADERS, END_STREAM, type FieldLine, response, Script } from './http2.ts';

export const grpc = createHttp2Protocol({ keepHeaders, streams: [createGrpcProtocol()] });

/** A length-prefixed message; flags: 1 compressed, 0x80 trailers of gRPC-Web. */
export function message(content: string | Buffer, flags = 0): Buffer {
  const body = typeof content === 'string' ? Buffer.from(content, 'latin1') : content;
  const prefix = Buffer.alloc(5);
  prefix[0] = flags;
  prefix.writeUInt32BE(body.length, 1);
  return Buffer.concat([prefix, body]);
}

export const callFields = (path: string, type = 'application/grpc', ...more: FieldLine[]): FieldLine[] => [
  [':method', 'POST'],
  [':scheme', 'http'],
  [':authority', 'shop.example'],
  [':path', path, 'literal'],
  ['content-type', type],
  ['te', 'trailers'],
  ...more,
];

export class GrpcScript extends Script {
  /** The header list of a call's request. */
  call(id: number, path: string, ...more: FieldLine[]): Buffer {
    return this.ask(id, callFields(path, 'application/grpc', ...more), END_HEADERS);
  }

  /** The header list of its response. */
  open(id: number, type = 'application/grpc', status = 200): Buffer {
    return this.answer(
      id,
      [
        [':status', String(status)],
        ['content-type', type],
      ],
      END_HEADERS,
    );
  }

  trailers(id: number, status: number | string, ...more: FieldLine[]): Buffer {
    return this.answer(id, [['grpc-status', String(status)], ...more], END_HEADERS | END_STREAM);
  }

  /** A response that is nothing but its status. */
  trailersOnly(id: number): Buffer {
    return this.answer(id, response(200, ['grpc-status', '0']), END_HEADERS | END_STREAM);
  }

  override run(options: ConstructorParameters<typeof Bench>[1] = {}): Bench {
    return new Bench(grpc.create, options).run(this.steps);
  }
}

/** `TARGET STATUS REQUESTS/RESPONSES BYTES/BYTES`, and what else there is to say. */
export function callFacts(calls: readonly GrpcExchange[]): string[] {
  return calls.map((call) => {
    const messages = `${call.requestMessages}/${call.responseMessages}`;
    const parts = [call.http.target, statusName(call.statusCode) ?? '-', messages];
    parts.push(`${call.requestMessageBytes}/${call.responseMessageBytes}`);
    const compressed = `${call.requestCompressed}/${call.responseCompressed}`;
    if (compressed !== '0/0') parts.push(`compressed=${compressed}`);
    if (call.timeoutUs > 0) parts.push(`timeout=${call.timeoutUs}`);
    if (call.web) parts.push('web');
    if (call.http.incomplete !== undefined) parts.push(call.http.incomplete);
    return parts.join(' ');
  });
}
