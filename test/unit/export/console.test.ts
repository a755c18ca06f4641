import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import { stripVTControlCharacters } from 'node:util';
import { readEnvironment } from '../../../src/config/environment.ts';
import { parseConfig } from '../../../src/config/load.ts';
import type { SqlExchange } from '../../../src/exchange/sql.ts';
import { type ConsoleStyle, consoleStyle, formatBytes, formatDuration } from '../../../src/export/console.ts';
import { outputsInUse } from '../../../src/export/create.ts';
import type { GrpcExchange } from '../../../src/protocol/grpc/exchange.ts';
import type { HttpExchange } from '../../../src/protocol/http/exchange.ts';
import {
  builder,
  call,
  connection,
  exchange,
  formatExchange,
  mysqlExchange,
  sqlExchange,
  statement,
  tls,
} from '../../support/spans/fixtures.ts';

const piped: ConsoleStyle = { color: false, columns: () => undefined };
const terminal = (columns: number): ConsoleStyle => ({ color: false, columns: () => columns });

function line(changes: Partial<HttpExchange>, style = piped): string {
  const each = exchange(changes);
  const text = formatExchange(each, builder().build(each), style);
  // The time is local: its form is looked at elsewhere.
  return text.replace(/^\d\d:\d\d:\d\d\.\d{3} {2}/, '');
}

describe('console', () => {
  it('writes one aligned line per exchange', () => {
    const secure = connection({ tls: tls() });
    assert.equal(
      line({ connection: secure, endUs: 1_700_000_000_003_100.5 }),
      'curl -> nginx            GET /orders/17                        200   3.1 ms    1.2 kB   h1 TLS1.3',
    );
    assert.equal(
      line({ statusCode: 0, incomplete: 'connection_reset', responseBodyBytes: 0 }),
      'curl -> nginx            GET /orders/17                          -   250 us       0 B   h1  connection_reset',
    );
    assert.match(formatExchange(exchange(), builder().build(exchange()), piped), /^\d\d:\d\d:\d\d\.\d{3} {2}curl/);
  });

  it('calls an end that no span stands for by its address', () => {
    const far = connection({ server: { socket: 0, address: '2001:db8::2', port: 8080 } });
    assert.match(line({ connection: far }), /^curl -> \[2001:db8::2\]:8080 /);
    const caller = connection({ client: { socket: 0 } });
    assert.match(line({ connection: caller }), /^192\.0\.2\.1 -> nginx /);
  });

  it('shows a status error once, and what is not whole', () => {
    assert.doesNotMatch(line({ statusCode: 503 }), /503.*503/);
    assert.match(line({ incomplete: 'gap' }), / 200 .* gap$/);
    assert.match(line({ statusCode: 200, incomplete: 'connection_closed' }), / 200 .* connection_closed$/);
  });

  it('lets no control character through, and redacts', () => {
    const text = line({
      method: 'GE\x1bT',
      target: '/\x1b]0;x\x07\x9b31m?sig=s3cret',
      connection: connection({ client: { socket: 0, address: 'a\u202eb\x1b[2J\n' } }),
    });
    assert.doesNotMatch(text, /[\p{Cc}\u202e]/u);
    assert.doesNotMatch(text, /s3cret/);
    assert.ok(text.includes('a\\x202eb\\x1b[2J\\x0a'));
  });

  it('cuts a long target on a terminal only', () => {
    const target = `/${'x'.repeat(300)}`;
    assert.ok(line({ target }).includes(target));
    const cut = line({ target }, terminal(100));
    assert.ok(cut.includes('x…  '), cut);
    assert.equal(cut.length + '00:00:00.000  '.length, 100);
    // Narrower than the rest: the target keeps a little.
    assert.ok(line({ target }, terminal(20)).includes('GET /xxxxxxxxxxxxxx…'));
  });

  it('colours on request only', () => {
    const each = exchange({ statusCode: 500 });
    const coloured = formatExchange(each, builder().build(each), { color: true, columns: () => undefined });
    assert.ok(coloured.includes('\x1b[31m500\x1b[0m'));
    assert.equal(stripVTControlCharacters(coloured), formatExchange(each, builder().build(each), piped));
    const stream = (isTTY: boolean, colors: boolean) =>
      consoleStyle({ isTTY, columns: 90, hasColors: () => colors } as unknown as NodeJS.WriteStream);
    assert.equal(stream(false, true).color, false);
    assert.equal(stream(true, false).color, false);
    assert.equal(stream(true, true).color, true);
    assert.equal(stream(false, true).columns(), undefined);
    assert.equal(stream(true, true).columns(), 90);
  });

  it('writes durations and sizes for people', () => {
    const durations: [number, string][] = [
      [0, '0 us'],
      [999, '999 us'],
      [999.6, '1.0 ms'],
      [99_949, '99.9 ms'],
      [99_951, '100 ms'],
      [1_250_000, '1.25 s'],
      [125_000_000, '2 m 05 s'],
    ];
    for (const [us, text] of durations) assert.equal(formatDuration(us), text);
    const sizes: [number, string][] = [
      [0, '0 B'],
      [999, '999 B'],
      [1200, '1.2 kB'],
      [999_960, '1.0 MB'],
      [50_000_000, '50.0 MB'],
      [3e9, '3.0 GB'],
    ];
    for (const [bytes, text] of sizes) assert.equal(formatBytes(bytes), text);
  });
});

describe('console: gRPC', () => {
  const show = (changes: Partial<GrpcExchange>, http: Partial<HttpExchange> = {}) => {
    const each = call(changes, http);
    return formatExchange(each, builder().build(each), piped).replace(/^\d\d:\d\d:\d\d\.\d{3} {2}/, '');
  };

  it('stands in the columns of HTTP', () => {
    assert.deepEqual(
      [
        line({ connection: connection({ tls: tls() }) }),
        show({ connection: connection({ tls: tls() }) }),
        show({ requestMessages: -1, responseMessages: 11, web: true }),
        show({ statusCode: 4 }),
        show({ statusCode: -1, responseMessages: 70, interimUs: 1_700_000_060_000_000 }),
        show({ statusCode: -1 }, { incomplete: 'gap' }),
        show({ statusCode: -1 }, { incomplete: 'connection_reset', target: '*' }),
      ],
      [
        'curl -> nginx            GET /orders/17                        200   250 us    1.2 kB   h1 TLS1.3',
        'curl -> nginx            shop.v1.Orders/Get                     OK   250 us     842 B   grpc TLS1.3',
        'curl -> nginx            shop.v1.Orders/Get  (?/11)             OK   250 us     842 B   grpc-web',
        'curl -> nginx            shop.v1.Orders/Get      DEADLINE_EXCEEDED   250 us     842 B   grpc',
        'curl -> nginx            shop.v1.Orders/Get  (1/70)           open 1 m 00 s     842 B   grpc',
        'curl -> nginx            shop.v1.Orders/Get                      -   250 us     842 B   grpc  gap',
        'curl -> nginx            ?                             UNAVAILABLE   250 us     842 B   grpc',
      ],
    );
  });
});

describe('console: SQL', () => {
  const show = (each: SqlExchange, style = piped) =>
    formatExchange(each, builder().build(each), style).replace(/^\d\d:\d\d:\d\d\.\d{3} {2}/, '');

  it('stands in the columns of HTTP', () => {
    const secure = connection({ tls: tls(), server: { port: 5432 } });
    assert.deepEqual(
      [
        line({ connection: connection({ tls: tls() }) }),
        show(sqlExchange({ connection: secure })),
        show(mysqlExchange({ failed: true, statusCode: '1146', returnedRows: -1, namespace: '' })),
        show(mysqlExchange({ system: 'mariadb', returnedRows: 0, affectedRows: 1, batchSize: 2 })),
        show(sqlExchange({ statement: undefined, returnedRows: -1, incomplete: 'connection_reset' })),
        show(sqlExchange({ statement: statement({ summary: 'BEGIN' }), returnedRows: -1 })),
        show(sqlExchange({ connection: connection({ client: { socket: 0 } }), returnedRows: 1_000_000 })),
        show(sqlExchange({ connection: connection({ server: { socket: 0 } }), incomplete: 'gap' })),
      ],
      [
        'curl -> nginx            GET /orders/17                        200   250 us    1.2 kB   h1 TLS1.3',
        'curl -> nginx            SELECT orders  (shop)              3 rows   1.3 ms     842 B   pg TLS1.3',
        'curl -> nginx            SELECT orders                        1146   1.3 ms     842 B   mysql',
        'curl -> nginx            BATCH SELECT orders  (shop)         1 row   1.3 ms     842 B   mariadb',
        'curl -> nginx            ?  (shop)                               -   1.3 ms     842 B   pg  connection_reset',
        'curl -> nginx            BEGIN  (shop)                          ok   1.3 ms     842 B   pg',
        '192.0.2.1 -> nginx       SELECT orders  (shop)        1000000 rows   1.3 ms     842 B   pg',
        'curl -> 198.51.100.2:80  SELECT orders  (shop)                   -   1.3 ms     842 B   pg  gap',
      ],
    );
  });

  it('cuts a long summary on a terminal only, and colours what failed', () => {
    const long = sqlExchange({ statement: statement({ summary: `SELECT ${'t '.repeat(100)}` }) });
    assert.ok(show(long).includes('t t t   (shop)'));
    assert.equal(show(long, terminal(100)).length + '00:00:00.000  '.length, 100);
    const failed = sqlExchange({ failed: true, statusCode: '42P01' });
    const coloured = show(failed, { color: true, columns: () => undefined });
    assert.ok(coloured.includes('\x1b[31m42P01\x1b[0m'));
    assert.equal(stripVTControlCharacters(coloured).replace(/^[\d:.]+ {2}/, ''), show(failed));
  });

  it('lets no control character through', () => {
    const text = show(
      sqlExchange({ namespace: 'a\x1b]0;x\x07', statement: statement({ summary: 'SELECT "\x9b31m"' }) }),
    );
    assert.doesNotMatch(text, /\p{Cc}/u);
  });
});

describe('default output', () => {
  const used = (environment: Record<string, string>, text = '') =>
    outputsInUse([], parseConfig(text, 'x', { below: readEnvironment(environment).values }));

  it('is otlp when the environment or the configuration names a backend, else the console', () => {
    assert.deepEqual(used({}), ['console']);
    assert.deepEqual(used({ OTEL_EXPORTER_OTLP_ENDPOINT: ' ' }), ['console']);
    assert.deepEqual(used({ OTEL_EXPORTER_OTLP_ENDPOINT: 'http://c:4317' }), ['otlp']);
    assert.deepEqual(used({ OTEL_EXPORTER_OTLP_TRACES_ENDPOINT: 'http://c:4317' }), ['otlp']);
    assert.deepEqual(used({}, 'otlp: {endpoint: "http://c:4317"}'), ['otlp']);
    assert.deepEqual(used({}, 'otlp_copies: [{name: a, endpoint: "http://c:4317"}]'), ['otlp']);
    assert.deepEqual(outputsInUse(['none'], parseConfig('otlp: {endpoint: x}', 'x')), ['none']);
  });
});
