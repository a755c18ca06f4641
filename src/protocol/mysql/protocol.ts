import type { SqlAnalyser } from '../../sql/analyser.ts';
import type { LayerContext, Protocol } from '../layer.ts';
import { detectMysql } from './detect.ts';
import { MysqlLayer } from './layer.ts';
import type { MysqlLimits } from './limits.ts';

export interface MysqlOptions {
  /** Of the dialect `mysql`. */
  readonly analyser: SqlAnalyser;
}

/** The MySQL Client/Server Protocol, with MariaDB's extensions. */
export function createMysqlProtocol(options: MysqlOptions): Protocol {
  return {
    name: 'mysql',
    detect: detectMysql,
    create: (context: LayerContext<MysqlLimits>) => new MysqlLayer(context, options.analyser),
  };
}
