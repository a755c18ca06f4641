/** `node tcp-relay.mjs HOST PORT TO-PORT`: hands the bytes of each connection on, as they are. Says `listening PORT`. */
import { connect, createServer } from 'node:net';

const [host, port, to] = process.argv.slice(2);
const server = createServer((from) => {
  const onward = connect(Number(to), host);
  from.pipe(onward).pipe(from);
  for (const socket of [from, onward]) socket.on('error', () => {}).on('close', () => socket.destroy());
});
server.listen(Number(port), host, () => console.log(`listening ${server.address().port}`));
process.on('SIGTERM', () => process.exit(0));
