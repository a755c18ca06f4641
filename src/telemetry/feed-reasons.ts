import type { ReasonTable } from '../config/define.ts';

/** Why readers of the feed of exchanges did not get some (export/feed.ts, export/feed-stream.ts). */
export const feedReasons: ReasonTable = {
  key: 'feed',
  title: 'Exchanges that readers of the feed did not get',
  reasons: {
    rate_limited: {
      meaning: 'More exchanges came in a second than readers are shown. Spans and outputs are not affected.',
      action: 'Use an output instead, such as `jsonl`.',
    },
    slow_reader: {
      meaning: 'The reader of a stream took its bytes too slowly.',
      action: 'Read faster, or ask for fewer exchanges.',
    },
    reader_failed: {
      meaning: 'The agent could not show an exchange to a reader.',
      action: 'This is a defect. Please report it with the log.',
    },
  },
};
