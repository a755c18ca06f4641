import { z } from 'zod';

/** Which exchanges become spans: the keys of `sampling`, `filters` and `services`. */

const MAX_RULES = 1000;
const MAX_US = 86_400_000_000;

export const samplingShape = {
  follow_parent: z
    .boolean()
    .default(true)
    .describe(
      'The decision that a context on the wire tells is followed: no spans of a trace that is not sampled there, and spans of one that is, whatever the ratio.',
    ),
  ratio: z
    .number()
    .min(0)
    .max(1)
    .default(1)
    .describe(
      'Share of all other traces that is kept. By the trace id, so that all agents keep the same; tracestate (`ot=th:`) says how many a span stands for. OTEL_TRACES_SAMPLER and OTEL_TRACES_SAMPLER_ARG set both keys.',
    ),
  spans_per_second: z
    .int()
    .min(0)
    .max(10_000_000)
    .default(0)
    .describe(
      'Spans per second of one service, about: when there are more, a share of its traces is kept that comes out at this many, and tracestate says so. 0: any number.',
    ),
  keep_errors: z
    .boolean()
    .default(true)
    .describe('Exchanges that failed for their client (4xx too) are kept, whatever ratio and spans_per_second say.'),
  keep_slower_than_ms: z
    .int()
    .min(0)
    .max(86_400_000)
    .default(0)
    .describe('The same for exchanges that took at least this long. 0: none.'),
  keep_in_unsampled_traces: z
    .boolean()
    .default(false)
    .describe('Keep these two kinds also where a context on the wire says that the trace is not sampled.'),
};

const name = z.string().min(1).max(1024);

const rule = z
  .strictObject({
    namespace: name.optional(),
    service: name.optional(),
    path: z.string().startsWith('/', 'expected a path that starts with /, such as /orders/{id}').optional(),
    method: name.optional(),
    database: name.optional(),
    min_duration_us: z.int().min(0).max(MAX_US).optional(),
    max_duration_us: z.int().min(0).max(MAX_US).optional(),
    failed: z.boolean().optional(),
  })
  .refine((conditions) => Object.keys(conditions).length > 0, 'expected at least one condition');

const rules = z.array(rule).max(MAX_RULES).default([]);

export const filtersShape = {
  include: rules.describe(
    'Spans are made only where one of these rules holds. A rule is a mapping of conditions that must all hold: `namespace`, `service` (of the span), `method` (of HTTP, `package.Service/Method` of gRPC, the operation of SQL), `database`, each a name with `*` for any characters; `path`, a pattern as in http.routes; `min_duration_us`, `max_duration_us`; `failed` (true or false, as in sampling.keep_errors). None: everywhere.',
  ),
  exclude: rules.describe('No spans are made where one of these rules holds.'),
};

export const servicesShape = {
  avoid_instrumented: z
    .boolean()
    .default(false)
    .describe(
      'Make no spans of processes that were seen to export spans of their own over OTLP, and no metrics of those that export metrics. Default: ours join theirs as children, of kind INTERNAL where theirs stands for the same request, so that nothing counts twice.',
    ),
};
