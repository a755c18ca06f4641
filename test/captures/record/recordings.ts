import { HTTP_RECORDINGS } from './http.ts';
import { HTTP2_RECORDINGS } from './http2.ts';
import { MYSQL_RECORDINGS } from './mysql.ts';
import { POSTGRES_RECORDINGS } from './postgres.ts';
import type { Recording } from './recorder.ts';
import { TLS_RECORDINGS } from './tls.ts';

/** All that can be made again. */
export const RECORDINGS: readonly Recording[] = [
  ...HTTP_RECORDINGS,
  ...TLS_RECORDINGS,
  ...HTTP2_RECORDINGS,
  ...MYSQL_RECORDINGS,
  ...POSTGRES_RECORDINGS,
];
