import { z } from 'zod';
import { type ConfigSection, type SectionValues, whole } from '../config/define.ts';

const MAX_LIST_ENTRIES = 1000;

/** A regular expression of JavaScript, compiled. SQL knows no case, so it does not either. */
const pattern = z.string().transform((text, context) => {
  try {
    return new RegExp(text, 'i');
  } catch {
    context.addIssue({ code: 'custom', message: 'expected a regular expression' });
    return z.NEVER;
  }
});

const sqlShape = {
  raw_text: z
    .boolean()
    .default(false)
    .describe(
      'Statements with the values in their text, and with the comments inside it. Default: each value is `?`, comments go.',
    ),
  max_text_bytes: whole(1, 1_048_576, 2048, 'Longest text of a statement in UTF-8. What is longer is cut, and marked.'),
  ignore: z
    .array(pattern)
    .max(MAX_LIST_ENTRIES)
    .prefault([])
    .describe('Regular expressions, without regard to case. Statements that one of them matches become no spans.'),
  min_duration_us: whole(
    0,
    3_600_000_000,
    0,
    'Statements that took less become no spans, unless they failed. In microseconds.',
  ),
  capture_returned_rows: z
    .boolean()
    .default(true)
    .describe('Say in db.response.returned_rows how many rows were returned.'),
  capture_operation_and_collection: z
    .boolean()
    .default(false)
    .describe(
      "Say db.operation.name and db.collection.name, taken from the statement's text, which the semantic conventions advise against.",
    ),
};

/** `sql`: shared by all protocols that carry SQL. */
export const sqlSection = { description: 'SQL spans.', shape: sqlShape } satisfies ConfigSection;

export type SqlConfig = SectionValues<typeof sqlSection>;
