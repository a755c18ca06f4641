import type { LimitDefinitions, LimitValues } from '../config/define.ts';

/** Shared by all protocols that carry SQL. */
export const sqlLimits = {
  sqlTextBytes: {
    value: 1024 * 1024,
    unit: 'bytes',
    meaning: 'Bytes of one SQL text. The statements of a longer one have no text.',
    counted: 'sql: text_limit',
  },
  sqlCachedTexts: {
    value: 2048,
    unit: 'count',
    meaning: 'SQL texts whose statements are remembered, per dialect.',
  },
  sqlCachedTextBytes: {
    value: 8192,
    unit: 'bytes',
    meaning: 'Bytes of such a text; a longer one is read again each time.',
  },
  sqlCacheBytes: {
    value: 16 * 1024 * 1024,
    unit: 'bytes',
    meaning: 'What these texts and their statements cost, per dialect, in bytes.',
  },
  sqlPreparedStatements: {
    value: 4096,
    unit: 'count',
    meaning: 'Prepared statements remembered per connection.',
    counted: 'sql: statement_evicted',
  },
  sqlPortals: {
    value: 256,
    unit: 'count',
    meaning: 'Cursors (portals) remembered per connection.',
    counted: 'sql: portal_evicted',
  },
  sqlSavepoints: {
    value: 64,
    unit: 'count',
    meaning: 'Savepoints remembered per transaction.',
    counted: 'sql: savepoint_evicted',
  },
  sqlPipelineDepth: {
    value: 65_536,
    unit: 'count',
    meaning: 'SQL messages of one connection that wait for their answer.',
    counted: 'connections.givenUp: pipeline_limit',
  },
  sqlParseErrors: {
    value: 16,
    unit: 'count',
    meaning: 'SQL messages of one connection that could not be parsed before the connection is given up.',
    counted: 'connections.givenUp: protocol_error',
  },
  sqlQuietUs: {
    value: 1_000_000,
    unit: 'us',
    meaning:
      'Silence after which a connection that sends further statements before the answers is taken to be between two of them.',
    counted: 'incomplete: gap',
  },
} as const satisfies LimitDefinitions;

export type SqlLimits = LimitValues<typeof sqlLimits>;
