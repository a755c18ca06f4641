/**
 * A small application: a visitor asks the front service, which asks the orders service, which asks PostgreSQL, everything over TLS. Each
 * request makes 6 spans, 7 for every fifth order, which fails: of the visitor and front, of front and orders, and one for each statement.
 */
import { fileURLToPath } from 'node:url';
import { type Postgres, startPostgres } from '../databases/postgres.ts';
import { type Cgroup, newCgroup } from '../kernel/cgroup.ts';
import { selfSigned } from '../programs/certificate.ts';
import type { Cleanup } from '../programs/cleanup.ts';
import { type Running, run, start } from '../programs/process.ts';
import { driverPackages } from '../sql/drivers.ts';

const script = (name: string) => fileURLToPath(new URL(`${name}.mjs`, import.meta.url));

export const DATABASE = 'shop';

/** By how much the price of an item takes longer than it should. */
const price = (seconds: number) =>
  `CREATE OR REPLACE FUNCTION price(item text) RETURNS int LANGUAGE plpgsql AS $$
   BEGIN ${seconds > 0 ? `PERFORM pg_sleep(${seconds});` : ''} RETURN length(item); END $$`;

export interface Shop {
  /** Holds the visitor and both services, not the database. */
  cgroup: Cgroup;
  postgres: Postgres;
  /** Starts the two services: once the agent is there, which must see their connections begin. */
  open(): Promise<void>;
  /** Visits `count` orders, from 1 on; returns the answers by status. */
  visit(count: number): Promise<Record<string, number>>;
  /** Visits without an end, some 30 times a second. */
  keepVisiting(): Running;
  /** One visit within a trace. */
  visitWithin(traceparent: string): Promise<void>;
  /** Lets one of the queries, as it is written, take longer. */
  slowDown(seconds: number): Promise<void>;
}

/** Makes everything ready but the two services. */
export async function startShop(cleanup: Cleanup): Promise<Shop> {
  const cgroup = await newCgroup(cleanup);
  const [postgres, certificate, env] = await Promise.all([
    startPostgres(cleanup),
    selfSigned(cleanup),
    driverPackages(),
  ]);
  await postgres.sql([`CREATE DATABASE ${DATABASE}`]);
  const slowDown = async (seconds: number) => {
    await postgres.sql([price(seconds)], DATABASE);
  };
  await slowDown(0);
  await postgres.sql(
    [
      'CREATE TABLE orders (id int PRIMARY KEY, item text); CREATE TABLE visits (order_id int)',
      "INSERT INTO orders SELECT id, 'item ' || id FROM generate_series(1, 10000) AS id",
    ],
    DATABASE,
  );
  const node = (name: string, ...args: string[]): [string, string[]] => {
    const [command, ...rest] = [...cgroup.prefix, process.execPath, script(name), ...args];
    return [command!, rest];
  };
  const service = async (name: string, last: string): Promise<string> => {
    const options = { env: { ...env, OTEL_SERVICE_NAME: name } };
    const running = start(cleanup, ...node(name, certificate.certFile, certificate.keyFile, last), options);
    return `https://127.0.0.1:${(await running.waitFor('stdout', /^listening (\d+)\n/))[1]}`;
  };
  const visitor = { env: { OTEL_SERVICE_NAME: 'visitor' } };
  let front = '';
  return {
    cgroup,
    postgres,
    slowDown,
    async open() {
      const { host, port, user, password, certificate } = postgres;
      const ca = certificate.certFile;
      front = await service(
        'front',
        await service('orders', JSON.stringify({ host, port, user, password, ca, database: DATABASE })),
      );
    },
    async visit(count) {
      const { stdout } = await run(...node('visitor', front, String(count), '0'), visitor);
      return JSON.parse(stdout) as Record<string, number>;
    },
    keepVisiting: () => start(cleanup, ...node('visitor', front, '', '100'), visitor),
    async visitWithin(traceparent) {
      const header = ['-H', `traceparent: ${traceparent}`];
      const [command, ...args] = [...cgroup.prefix, 'curl', '-sk', '-o', '/dev/null', ...header, `${front}/orders/1`];
      await run(command!, args, visitor);
    },
  };
}
