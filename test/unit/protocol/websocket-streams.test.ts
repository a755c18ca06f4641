/** WebSocket on streams of HTTP/2 (RFC 8441). */
import assert from 'node:assert/strict';
import { describe as suite, test } from 'node:test';
import { FROM_CLIENT, FROM_SERVER } from '../../../src/flow/connection.ts';
import { createHttp2Protocol } from '../../../src/protocol/http2/protocol.ts';
import { BINARY, CLOSE, CONTINUATION, TEXT } from '../../../src/protocol/websocket/frames.ts';
import { webSocketStreams } from '../../../src/protocol/websocket/streams.ts';
import { record } from '../../support/http/http2.ts';
import { Bench, keepHeaders } from '../../support/protocols/cases.ts';
import {
  data,
  END_HEADERS,
  END_STREAM,
  type FieldLine,
  facts,
  request,
  response,
  rst,
  Script,
} from '../../support/protocols/http2.ts';
import { aside, code, fromClient, fromServer } from '../../support/protocols/websocket.ts';

const CANCEL = 8;
const http2 = createHttp2Protocol({ keepHeaders, streams: [webSocketStreams] });
const hello = fromClient(TEXT, 'hello');
const large = fromClient(BINARY, Buffer.alloc(40_000));
const world = fromServer(TEXT, 'world!');
const goodbye = fromClient(CLOSE, code(1000));
const farewell = fromServer(CLOSE, code(1000));

function connect(protocol = 'websocket'): FieldLine[] {
  return [[':method', 'CONNECT'], [':protocol', protocol], ...request('/chat?room=7').slice(1)];
}

function run(script: Script): { bench: Bench; seen: string[] } {
  const seen: string[] = [];
  return { bench: new Bench((context) => http2.create(aside(context, seen))).run(script.steps), seen };
}

/** A stream that was opened. */
function opened(id = 1): Script {
  const script = new Script();
  script.c(script.ask(id, connect(), END_HEADERS));
  return script.s(script.answer(id, response(200), END_HEADERS));
}

suite('websocket over http2', () => {
  test('messages, in frames of both protocols, and a request beside them', () => {
    const up = Buffer.concat([hello, fromClient(TEXT, 'a', { fin: false }), fromClient(CONTINUATION, 'b'), goodbye]);
    for (let at = 1; at < up.length; at++) {
      const script = opened();
      script.c(data(1, up.subarray(0, at)), script.ask(3, request('/page')), data(1, up.subarray(at), END_STREAM));
      script.s(script.answer(3, response(404)), data(1, Buffer.concat([world, farewell]), END_STREAM));
      const { bench, seen } = run(script);
      assert.deepEqual(seen, ['client 2/7 server 1/6 1000 client']);
      assert.deepEqual(facts(bench), ['CONNECT /chat?room=7 -> 200 0/0', 'GET /page -> 404 0/0']);
      assert.deepEqual(bench.counters.exchanges, { http: 2, websocket: 1 });
      assert.deepEqual([bench.counters.incomplete, bench.counters.parseErrors], [{}, {}]);
    }
  });

  test("bytes of Node's client and server", async () => {
    const segments = await record(
      (client) =>
        new Promise((resolve, reject) => {
          client.once('remoteSettings', () => {
            const stream = client.request(
              {
                ':method': 'CONNECT',
                ':protocol': 'websocket',
                ':path': '/chat',
                ':scheme': 'http',
                ':authority': 'a.example',
              },
              { endStream: false },
            );
            stream.on('response', () => stream.write(Buffer.concat([hello, large])));
            stream.on('data', () => {});
            stream.once('data', () => stream.end(goodbye));
            stream.on('end', resolve);
            stream.on('error', reject);
          });
        }),
      {
        server: { settings: { enableConnectProtocol: true } },
        onStream(stream) {
          stream.respond({ ':status': 200 });
          stream.once('data', () => stream.write(world));
          stream.on('end', () => stream.end(farewell));
          stream.resume();
        },
      },
    );
    const seen: string[] = [];
    const bench = new Bench((context) => http2.create(aside(context, seen)));
    segments.forEach(({ direction, bytes }, i) => {
      bench.feed(direction, bytes, i + 1);
    });
    assert.deepEqual(seen, ['client 2/40005 server 1/6 1000 client']);
    assert.deepEqual(facts(bench), ['CONNECT /chat -> 200 0/0']);
  });

  test('two streams at once are two exchanges', () => {
    const script = opened(1);
    script.c(script.ask(3, connect(), END_HEADERS)).s(script.answer(3, response(200), END_HEADERS));
    script.c(
      data(3, hello),
      data(1, hello),
      data(1, hello),
      data(3, goodbye, END_STREAM),
      data(1, goodbye, END_STREAM),
    );
    script.s(data(1, farewell, END_STREAM), data(3, farewell, END_STREAM));
    assert.deepEqual(run(script).seen, ['client 2/10 server 0/0 1000 client', 'client 1/5 server 0/0 1000 client']);
  });

  test('a stream that ends without a Close frame, by END_STREAM and by RST_STREAM', () => {
    const ended = opened()
      .s(data(1, world, END_STREAM))
      .c(data(1, '', END_STREAM));
    const both = run(ended);
    assert.deepEqual(both.seen, ['client 0/0 server 1/6 1006 server connection_closed']);
    assert.deepEqual(both.bench.counters.incomplete, { connection_closed: 1 });
    const reset = run(opened().c(data(1, hello), rst(1, CANCEL)));
    assert.deepEqual(reset.seen, ['client 1/5 server 0/0 1006  stream_reset']);
    assert.deepEqual(reset.bench.counters.incomplete, { stream_reset: 1 });
  });

  test('a reset behind both Close frames takes nothing from it', () => {
    const { bench, seen } = run(opened().c(data(1, goodbye)).s(data(1, farewell)).c(rst(1, CANCEL)));
    assert.deepEqual(seen, ['client 0/0 server 0/0 1000 client']);
    assert.deepEqual(bench.counters.incomplete, {});
  });

  test('the end of the connection ends it', () => {
    const { bench, seen } = run(opened().c(data(1, hello)));
    bench.close('reset', 99);
    assert.deepEqual(seen, ['client 1/5 server 0/0 1006  connection_reset']);
    assert.deepEqual(bench.counters.incomplete, { connection_reset: 1 });
  });

  test('content that a hole took', () => {
    const script = opened();
    const frame = data(1, fromServer(TEXT, 'x'.repeat(100)));
    script
      .s(frame.subarray(0, 40))
      .gap(FROM_SERVER, 20)
      .s(frame.subarray(60), data(1, farewell, END_STREAM));
    script.c(data(1, goodbye, END_STREAM));
    const { seen, bench } = run(script);
    assert.deepEqual(seen, ['client 0/0 server 1/100 1000 server']);
    assert.deepEqual(bench.counters.incomplete, {});
  });

  test('a hole between frames: what was counted is the least, and the exchange says so', () => {
    const script = opened().c(data(1, hello)).gap(FROM_CLIENT, 33);
    script
      .c(data(1, hello), data(1, hello), data(1, goodbye))
      .s(data(1, farewell, END_STREAM))
      .c(data(1, '', END_STREAM));
    const { seen } = run(script);
    assert.equal(seen.length, 1);
    assert.match(seen[0]!, /^client [23]\/1[05] server 0\/0 1000 client gap$/);
  });

  test('refused, for another protocol, or an ordinary tunnel: as before', () => {
    const refused = new Script();
    refused
      .c(refused.ask(1, connect(), END_HEADERS))
      .s(refused.answer(1, response(403), END_HEADERS), data(1, 'no', END_STREAM));
    refused.c(data(1, '', END_STREAM));
    const { bench, seen } = run(refused);
    assert.deepEqual([facts(bench), seen], [['CONNECT /chat?room=7 -> 403 0/2'], []]);
    const other = new Script();
    other
      .c(other.ask(1, connect('connect-udp'), END_HEADERS))
      .s(other.answer(1, response(200), END_HEADERS), data(1, world));
    const after = run(other);
    assert.deepEqual([facts(after.bench), after.seen], [['CONNECT /chat?room=7 -> 200 0/0'], []]);
  });
});
