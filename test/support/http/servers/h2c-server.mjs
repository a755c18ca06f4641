/** `node h2c-server.mjs HOST PORT`: see servers.ts. Just enough of RFC 7540 section 3.2 for a real client. */
import { createServer } from 'node:net';

const PREFACE_BYTES = 24;
const [host, port] = process.argv.slice(2);

function frame(type, flags, streamId, payload = Buffer.alloc(0)) {
  const head = Buffer.alloc(9);
  head.writeUIntBE(payload.length, 0, 3);
  head[3] = type;
  head[4] = flags;
  head.writeUInt32BE(streamId, 5);
  return Buffer.concat([head, payload]);
}

/** `:status: 200`, and the body. */
const answer = (streamId) =>
  Buffer.concat([frame(1, 4, streamId, Buffer.from([0x88])), frame(0, 1, streamId, Buffer.from('hello'))]);

const server = createServer((socket) => {
  let bytes = Buffer.alloc(0);
  let upgraded = false;
  let began = false;
  socket.on('error', () => {});
  socket.on('data', (chunk) => {
    bytes = Buffer.concat([bytes, chunk]);
    if (!upgraded) {
      const end = bytes.indexOf('\r\n\r\n');
      if (end < 0) return;
      bytes = bytes.subarray(end + 4);
      upgraded = true;
      socket.write('HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: h2c\r\n\r\n');
      socket.write(Buffer.concat([frame(4, 0, 0), answer(1)]));
    }
    if (!began && bytes.length >= PREFACE_BYTES) {
      bytes = bytes.subarray(PREFACE_BYTES);
      began = true;
    }
    while (began && bytes.length >= 9 && bytes.length >= 9 + bytes.readUIntBE(0, 3)) {
      const type = bytes[3];
      const flags = bytes[4];
      const streamId = bytes.readUInt32BE(5);
      bytes = bytes.subarray(9 + bytes.readUIntBE(0, 3));
      if (type === 4 && (flags & 1) === 0) socket.write(frame(4, 1, 0));
      if (type === 1) socket.write(answer(streamId));
    }
  });
});
server.listen(Number(port), host, () => console.log(`listening ${server.address().port}`));
process.on('SIGTERM', () => process.exit(0));
