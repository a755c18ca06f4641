/** The durations of all databases are in one pair of metrics. */
import { DATABASE_BOUNDS } from '../metric/bounds.ts';
import { KEY } from './attributes.ts';
import type { Instrument } from './durations.ts';

/** Semantic conventions for database client metrics. */
export const DATABASE_CLIENT: Instrument = {
  name: 'db.client.operation.duration',
  description: 'Duration of database client operations.',
  bounds: DATABASE_BOUNDS,
  keys: [KEY.dbSystemName, KEY.dbNamespace, KEY.serverAddress, KEY.serverPort],
};

/** The conventions know nothing of the kind: where the client is elsewhere, and nobody sees it. */
export const DATABASE_SERVER: Instrument = {
  name: 'wirespan.db.server.operation.duration',
  description: 'Duration of database operations whose clients are on other machines.',
  bounds: DATABASE_BOUNDS,
  keys: [KEY.dbSystemName, KEY.dbNamespace],
};
