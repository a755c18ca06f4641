import type { Certificate } from '../programs/certificate.ts';
import { type Driver, type DriverTask, type FeatureTime, runDriver } from '../sql/drivers.ts';
import type { GoMySql } from './go-mysql-server.ts';
import type { MariaDb } from './mariadb.ts';
import type { Postgres } from './postgres.ts';

/** What every database server has. */
export interface DatabaseServer {
  host: string;
  port: number;
  user: string;
  password: string;
  certificate: Certificate;
}

/** A driver that is to be run with or without TLS. */
export interface DriverRun {
  driver: Driver;
  tls: boolean;
  /** Of the names of its databases or users: `node_pg_tls`. */
  prefix: string;
  features: readonly string[];
  direct?: boolean;
  rows?: number;
  /** Before the driver's command line, such as that of a cgroup. */
  within?: readonly string[];
}

export function driverRun(driver: Driver, tls: boolean, more: Partial<DriverRun> = {}): DriverRun {
  return { driver, tls, prefix: `${driver.name}_${tls ? 'tls' : 'plain'}`, features: driver.features, ...more };
}

function taskOf({ host, port, user, password, certificate }: DatabaseServer, run: DriverRun): DriverTask {
  const { tls, prefix, features, direct, rows } = run;
  return {
    ...{ host, port, user, password, tls, prefix, features, ca: certificate.certFile, users: false },
    ...(direct === undefined ? {} : { direct }),
    ...(rows === undefined ? {} : { rows }),
  };
}

/** Runs a driver in a database of its own, a user and a schema per feature: databases are slow to make here. */
export async function driveOnPostgres(postgres: Postgres, run: DriverRun): Promise<FeatureTime[]> {
  const { prefix, features } = run;
  await postgres.sql([`CREATE DATABASE ${prefix}`]);
  const own = features.map((feature) => `${prefix}_${feature}`);
  // In one transaction each.
  await postgres.sql([
    own.map((name) => `CREATE ROLE ${name} LOGIN SUPERUSER PASSWORD '${postgres.password}'`).join(';'),
  ]);
  await postgres.sql([own.map((name) => `CREATE SCHEMA ${name}`).join(';')], prefix);
  return runDriver(run.driver, { ...taskOf(postgres, run), users: true }, run.within);
}

/** Runs a driver with a database per feature. */
export async function driveOnMariaDb(mariadb: MariaDb, run: DriverRun): Promise<FeatureTime[]> {
  await mariadb.sql(run.features.map((feature) => `CREATE DATABASE ${run.prefix}_${feature};`).join(''));
  return runDriver(run.driver, taskOf(mariadb, run), run.within);
}

/** Runs a driver with a database per feature, which the caller has made. */
export function driveOnGoMySql(server: GoMySql, run: DriverRun): Promise<FeatureTime[]> {
  return runDriver(run.driver, taskOf(server, run), run.within);
}
