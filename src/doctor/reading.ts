/** What caps cost where files of processes are read, for people. */
import type { ReasonCounts } from '../telemetry/counters.ts';
import { READER_REASONS } from '../telemetry/reasons.ts';
import type { Check } from './report.ts';

/** One check for each cap that was passed. */
export function readingChecks(counts: ReasonCounts): Check[] {
  return Object.entries(counts)
    .filter(([, n]) => n > 0)
    .map(([name, n]) => ({
      group: 'Reading about processes',
      name,
      state: 'limited',
      detail: `${n} times: ${READER_REASONS.reasons[name]?.meaning ?? 'a limit was reached'}`,
    }));
}
