/**
 * `node grpc-server.mjs HOST PORT [CERT KEY]`: test.Calls, whose messages are JSON with padding: Unary, Upload (client streaming), Download
 * (server streaming), Chat (both). Asks: {bytes: of each reply, replies: Download, status: to end with, failFirst: before any reply,
 * hang: never end, which it says: `hangs`}. Says `listening PORT`, then a line of JSON per call that it ended itself.
 */
import { readFileSync } from 'node:fs';
import { Server, ServerCredentials } from '@grpc/grpc-js';

const [host, port, cert, key] = process.argv.slice(2);
const raw = {
  requestSerialize: (b) => b,
  requestDeserialize: (b) => b,
  responseSerialize: (b) => b,
  responseDeserialize: (b) => b,
};
const method = (name, requestStream, responseStream) => ({
  path: `/test.Calls/${name}`,
  requestStream,
  responseStream,
  ...raw,
});
const definition = {
  Unary: method('Unary', false, false),
  Upload: method('Upload', true, false),
  Download: method('Download', false, true),
  Chat: method('Chat', true, true),
};

function said(name, requests, responses, status, requestBytes, responseBytes) {
  console.log(JSON.stringify({ method: name, requests, responses, status, requestBytes, responseBytes }));
}

const read = (message) => JSON.parse(message.toString('latin1'));
const failure = (code) => Object.assign(new Error('not for traces'), { code, details: 'not for traces' });

const implementation = {
  Unary(call, callback) {
    const { bytes = 10, status = 0, hang = false } = read(call.request);
    if (hang) {
      console.log('hangs');
      return;
    }
    said('Unary', 1, status === 0 ? 1 : 0, status, call.request.length, status === 0 ? bytes : 0);
    if (status === 0) callback(null, Buffer.alloc(bytes, 121));
    else callback(failure(status));
  },
  Upload(call, callback) {
    let requests = 0;
    let sum = 0;
    let ask = {};
    call.on('data', (message) => {
      requests++;
      sum += message.length;
      ask = read(message);
    });
    call.on('end', () => {
      const { bytes = 10, status = 0 } = ask;
      said('Upload', requests, status === 0 ? 1 : 0, status, sum, status === 0 ? bytes : 0);
      if (status === 0) callback(null, Buffer.alloc(bytes, 121));
      else callback(failure(status));
    });
    call.on('error', () => {});
  },
  Download(call) {
    const { bytes = 10, replies = 3, status = 0, failFirst = false, hang = false } = read(call.request);
    call.on('error', () => {});
    const count = failFirst ? 0 : replies;
    for (let i = 0; i < count; i++) call.write(Buffer.alloc(bytes, 121));
    if (hang) {
      console.log('hangs');
      return;
    }
    said('Download', 1, count, status, call.request.length, count * bytes);
    if (status === 0) call.end();
    else call.emit('error', failure(status));
  },
  Chat(call) {
    let requests = 0;
    let sum = 0;
    let replied = 0;
    call.on('data', (message) => {
      requests++;
      sum += message.length;
      const { bytes = 10 } = read(message);
      replied += bytes;
      call.write(Buffer.alloc(bytes, 121));
    });
    call.on('end', () => {
      said('Chat', requests, requests, 0, sum, replied);
      call.end();
    });
    call.on('error', () => {});
  },
};

const server = new Server({ 'grpc.max_concurrent_streams': 10_000 });
server.addService(definition, implementation);
const credentials = cert
  ? ServerCredentials.createSsl(null, [{ cert_chain: readFileSync(cert), private_key: readFileSync(key) }])
  : ServerCredentials.createInsecure();
const address = host.includes(':') ? `[${host}]:${port}` : `${host}:${port}`;
server.bindAsync(address, credentials, (error, bound) => {
  if (error) throw error;
  console.log(`listening ${bound}`);
});
