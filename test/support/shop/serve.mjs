import { readFileSync } from 'node:fs';
import https from 'node:https';

/** Answers on any free port, which is said as `listening PORT`. The first two arguments of the process are its certificate and key. */
export function serve(answer) {
  const [cert, key] = process.argv.slice(2, 4).map((file) => readFileSync(file));
  const server = https.createServer({ cert, key, keepAliveTimeout: 600_000 }, answer);
  server.listen(0, '127.0.0.1', () => console.log(`listening ${server.address().port}`));
  process.on('SIGTERM', () => process.exit(0));
}
