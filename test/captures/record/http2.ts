/** HTTP/2 and gRPC in plain text, under the header of a BSD's loopback device. */
import { once } from 'node:events';
import http2 from 'node:http2';
import { type AddressInfo, connect } from 'node:net';
import { setTimeout as sleep } from 'node:timers/promises';
import { goPeers } from '../../support/http/http2-peers.ts';
import { startServer } from '../../support/http/servers.ts';
import { run } from '../../support/programs/process.ts';
import { LINK_NULL, pcapFile, pcapngFile } from '../../support/wire/capture-files.ts';
import { type Recording, record, setMtu, underLink } from './recorder.ts';

/** AF_INET, in the byte order of a little-endian machine. */
const NULL_HEADER = [2, 0, 0, 0];
/** Wider than any message here. */
const WIDE_MTU = 16_384;

const HEADERS = 1;
const SETTINGS = 4;
const CONTINUATION = 9;
const END_STREAM = 1;
const END_HEADERS = 4;
const ACK = 1;

/** RFC 9113 section 4.1 */
function frame(type: number, flags: number, stream: number, payload: Buffer = Buffer.alloc(0)): Buffer {
  const header = Buffer.alloc(9);
  header.writeUIntBE(payload.length, 0, 3);
  header[3] = type;
  header[4] = flags;
  header.writeUInt32BE(stream, 5);
  return Buffer.concat([header, payload]);
}

/** RFC 7541 section 6.2.2, with a name of the static table or one in full. All lengths are below 127. */
function literal(name: number | string, value: string): Buffer {
  const text = (string: string): Buffer => Buffer.concat([Buffer.from([string.length]), Buffer.from(string)]);
  return Buffer.concat([
    typeof name === 'number' ? Buffer.from([name]) : Buffer.concat([Buffer.from([0]), text(name)]),
    text(value),
  ]);
}

/**
 * A request whose header block is three frames: one field is cut by the last two, and the head of each is a segment. The first CONTINUATION
 * has a flag that it does not define.
 */
const continuation: Recording = {
  name: 'http2-continuation.pcap.gz',
  async make(cleanup) {
    await setMtu(WIDE_MTU);
    const server = http2.createServer();
    server.on('stream', (stream) => {
      stream.respond({ ':status': 200, 'content-type': 'text/plain; charset=utf-8' });
      stream.end('Hello there!\n');
      stream.close();
    });
    server.listen(0, '127.0.0.1');
    await once(server, 'listening');
    cleanup.add(() => server.close());
    const { port } = server.address() as AddressInfo;
    // :method GET and :scheme http are whole entries of the static table (82, 86); 4 is :path, 1 is :authority.
    const first = Buffer.concat([Buffer.from([0x82, 0x86]), literal(4, '/parts'), literal(1, `127.0.0.1:${port}`)]);
    const long = literal(`x-${'name'.repeat(10)}`, 'value'.repeat(12));
    const parts = [long.subarray(0, 52), long.subarray(52)];
    const frames = await record(cleanup, port, async () => {
      const socket = connect(port, '127.0.0.1');
      await once(socket, 'connect');
      socket.setNoDelay(true).resume();
      for (const bytes of [
        Buffer.from('PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n'),
        frame(SETTINGS, 0, 0),
        frame(SETTINGS, ACK, 0),
        frame(HEADERS, END_STREAM, 1, first),
        ...[1, END_HEADERS].flatMap((flags, i) => {
          const bytes = frame(CONTINUATION, flags, 1, parts[i]!);
          return [bytes.subarray(0, 9), bytes.subarray(9)];
        }),
      ]) {
        socket.write(bytes);
        await sleep(20);
      }
      await sleep(200);
      socket.end();
      await once(socket, 'close');
    });
    return { file: pcapFile(underLink(frames, NULL_HEADER), LINK_NULL) };
  },
};

/** grpc-go at both ends: one message asks, ten answer. */
const serverStreaming: Recording = {
  name: 'grpc-server-streaming.pcapng.gz',
  async make(cleanup) {
    await setMtu(WIDE_MTU);
    const peers = await goPeers();
    const server = await startServer(cleanup, [peers, 'grpc-server'], { tls: false });
    const calls = [{ path: '/test.Calls/Download', ask: { replies: 10, bytes: 25 } }];
    const frames = await record(cleanup, server.port, async () => {
      await run(peers, ['grpc-client', `127.0.0.1:${server.port}`, '-', JSON.stringify({ calls })]);
    });
    return { file: pcapngFile(underLink(frames, NULL_HEADER), LINK_NULL) };
  },
};

export const HTTP2_RECORDINGS: readonly Recording[] = [continuation, serverStreaming];
