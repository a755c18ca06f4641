import { RAISE_LIMIT, type ReasonTable } from '../config/define.ts';

/** Shared by all protocols that carry SQL. */
export const sqlReasons: ReasonTable = {
  key: 'sql',
  title: 'Facts of statements that are not known',
  reasons: {
    doubtful: { meaning: 'The ends of its literals are not certain: the statement has no text.' },
    unsafe_encoding: { meaning: 'Its character set can hide the end of a literal: the statement has no text.' },
    text_limit: { meaning: 'Its text is longer than `limits.sql_text_bytes`.', action: RAISE_LIMIT },
    text_lost: { meaning: 'A part of its text was lost.' },
    statement_not_seen: { meaning: 'It was prepared before the agent started, or out of its sight.' },
    statement_evicted: {
      meaning: 'Its text was forgotten for that of another one.',
      action: 'Raise `limits.sql_prepared_statements`.',
    },
    portal_evicted: { meaning: 'Its cursor was forgotten for another one.', action: 'Raise `limits.sql_portals`.' },
    savepoint_evicted: { meaning: 'A savepoint was forgotten: the search path after its rollback is not known.' },
  },
};
