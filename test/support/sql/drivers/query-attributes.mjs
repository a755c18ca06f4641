/**
 * Query attributes by mysql2, at both ends: `serve` says `listening PORT` and answers everything with OK; `ask PORT STATEMENTS` sends JSON
 * of [text, attributes] pairs.
 */
import { load } from './common.mjs';

const mysql = load('mysql2');
/** PROTOCOL_41, SECURE_CONNECTION, PLUGIN_AUTH, TRANSACTIONS and CLIENT_QUERY_ATTRIBUTES ("Capabilities Flags"). */
const CAPABILITIES = (1 << 9) | (1 << 15) | (1 << 19) | (1 << 13) | (1 << 27);

const [mode, port, statements] = process.argv.slice(2);
if (mode === 'serve') {
  const server = mysql.createServer((connection) => {
    connection.on('error', () => {});
    connection.serverHandshake({
      protocolVersion: 10,
      serverVersion: '8.4.0',
      connectionId: 1,
      statusFlags: 2,
      characterSet: 45,
      capabilityFlags: CAPABILITIES,
    });
    connection.on('query', () => connection.writeOk({ affectedRows: 0 }));
  });
  server.listen(0, '127.0.0.1', () => console.log(`listening ${server._server.address().port}`));
  process.on('SIGTERM', () => process.exit(0));
} else {
  const connection = mysql.createConnection({ host: '127.0.0.1', port: Number(port), user: 'u' });
  const ask = (sql, attributes) =>
    new Promise((resolve, reject) => {
      connection.query({ sql, attributes }, (error) => (error ? reject(error) : resolve()));
    });
  for (const [sql, attributes] of JSON.parse(statements)) await ask(sql, attributes);
  connection.end();
}
