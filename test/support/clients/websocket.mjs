/**
 * `node websocket.mjs BASE JSON`: opens WebSocket connections, all at once, and says how they ended: a list of close codes, or of the status of
 * a refusal. JSON: a list of {path, sizes, binary, pings, code, terminate, headers, builtIn}: messages of these sizes are sent one by one, each when
 * the answer to the one before is there; then the connection is closed with that code, without one (0), or torn down.
 */
import WebSocket from 'ws';

const [base, json] = process.argv.slice(2);

function content(size, binary) {
  return binary ? Buffer.alloc(size, 7) : 'x'.repeat(size);
}

/** Node's own client, which cannot be told to do everything. */
function talkBuiltIn({ path, sizes, code }) {
  return new Promise((resolve) => {
    const socket = new globalThis.WebSocket(base + path);
    let sent = 0;
    const next = () => {
      if (sent < sizes.length) socket.send(content(sizes[sent++], false));
      else socket.close(code);
    };
    socket.onopen = next;
    socket.onmessage = next;
    socket.onerror = () => {};
    socket.onclose = (event) => resolve(event.code);
  });
}

function talk({ path, sizes = [], binary = false, pings = false, code = 1000, terminate = false, headers = {} }) {
  return new Promise((resolve) => {
    const socket = new WebSocket(base + path, { rejectUnauthorized: false, headers });
    let sent = 0;
    const next = () => {
      if (sent < sizes.length) {
        if (pings) socket.ping('are you there');
        socket.send(content(sizes[sent++], binary));
      } else if (terminate) socket.terminate();
      else if (code === 0) socket.close();
      else socket.close(code);
    };
    socket.on('open', next);
    socket.on('message', next);
    socket.on('unexpected-response', (_request, response) => {
      response.resume();
      resolve(response.statusCode);
    });
    socket.on('error', () => {});
    socket.on('close', resolve);
  });
}

const ends = await Promise.all(JSON.parse(json).map((task) => (task.builtIn ? talkBuiltIn(task) : talk(task))));
console.log(JSON.stringify(ends));
