/** gRPC-Web by hand (doc/PROTOCOL-WEB.md of github.com/grpc/grpc), for a client and a server that share nothing with what reads them on the wire. */
import { gunzipSync } from 'node:zlib';

const COMPRESSED = 0x01;
const TRAILERS = 0x80;

/** @returns a frame: flags, length, content */
export function frame(flags, content) {
  const prefix = Buffer.alloc(5);
  prefix.writeUInt8(flags, 0);
  prefix.writeUInt32BE(content.length, 1);
  return Buffer.concat([prefix, content]);
}

export const message = (content, compressed = false) => frame(compressed ? COMPRESSED : 0, content);

/** The trailer frame, which ends a body. */
export const trailers = (status, text) =>
  frame(TRAILERS, Buffer.from(`grpc-status:${status}\r\n${text === undefined ? '' : `grpc-message:${text}\r\n`}`));

/** The messages of a body as they were sent, what is in them, and the status of its trailer frame, if it has one. */
export function parse(body) {
  const messages = [];
  let bytes = 0;
  let status;
  for (let at = 0; at < body.length; ) {
    const flags = body.readUInt8(at);
    const end = at + 5 + body.readUInt32BE(at + 1);
    if (end > body.length || status !== undefined) throw new Error('not a body of frames');
    const content = body.subarray(at + 5, end);
    if (flags === TRAILERS) status = Number(/^grpc-status:(\d+)\r$/m.exec(content.toString('latin1'))[1]);
    else {
      messages.push(flags === COMPRESSED ? gunzipSync(content) : content);
      bytes += content.length;
    }
    at = end;
  }
  return { messages, bytes, status };
}

/** Base64 in which any piece may end in padding. */
export const fromText = (text) =>
  Buffer.concat(
    text
      .toString('latin1')
      .match(/[^=]+=*/g)
      ?.map((piece) => Buffer.from(piece, 'base64')) ?? [],
  );

export const isText = (contentType) => contentType.startsWith('application/grpc-web-text');

/** Cut where it is least convenient: after 1, 2, 3, 5, 8 ... bytes. */
export function* pieces(body) {
  let [size, next] = [1, 2];
  for (let at = 0; at < body.length; at += size, [size, next] = [next, size + next]) {
    yield body.subarray(at, at + size);
  }
}
