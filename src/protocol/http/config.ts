import { z } from 'zod';
import type { ConfigSection, SectionValues } from '../../config/define.ts';
import { defaultRedactedQueryKeys, forbiddenHeaders } from '../../config/http.ts';

const MAX_LIST_ENTRIES = 1000;

/** A header field's name: a token of RFC 9110 section 5.1. */
const headerName = z
  .string()
  .regex(/^[!#$%&'*+.^_`|~0-9A-Za-z-]+$/, 'expected the name of a header field')
  .transform((name) => name.toLowerCase())
  .refine(
    (name) => !forbiddenHeaders.has(name),
    'expected a field that is no credential: Authorization, Cookie and the like are never captured',
  );

const headerList = z.array(headerName).max(MAX_LIST_ENTRIES);

const httpShape = {
  capture_request_headers: headerList
    .prefault([])
    .describe('Request header fields that become attributes. Authorization, Cookie and the like never do.'),
  capture_response_headers: headerList
    .prefault([])
    .describe('Response header fields that become attributes. Set-Cookie never does.'),
  redact_query_keys: z
    .array(z.string().min(1))
    .max(MAX_LIST_ENTRIES)
    .default([...defaultRedactedQueryKeys])
    .describe(
      'Query parameters whose values are replaced by REDACTED; `*`: all. A list here replaces the default one.',
    ),
  redact_paths: z
    .array(z.string().startsWith('/', 'expected a path that starts with /, such as /reset/{token}'))
    .max(MAX_LIST_ENTRIES)
    .default([])
    .describe('Path patterns, such as `/reset/{token}`, that are shown instead of the paths that match them.'),
  routes: z
    .array(z.string().startsWith('/', 'expected a path that starts with /, such as /orders/{id}'))
    .max(MAX_LIST_ENTRIES)
    .default([])
    .describe(
      'Path patterns for http.route, such as `/orders/{id}`; the first that matches names the span. None: the method alone.',
    ),
  learn_routes: z
    .boolean()
    .default(false)
    .describe(
      'Find routes of other paths from what is asked for: places with many different segments, and identifiers, become `{id}`.',
    ),
};

/** `http`: shared by all that runs on HTTP. */
export const httpSection = { description: 'HTTP spans.', shape: httpShape } satisfies ConfigSection;

export type HttpConfig = SectionValues<typeof httpSection>;

/** What a module has of the configuration that runs on HTTP. */
export interface WithHttp {
  readonly http: HttpConfig;
}
