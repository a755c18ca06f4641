/** The views of SQL statements are alike in all protocols. */
import type { SqlExchange } from '../exchange/sql.ts';
import { errorType, readable } from '../span/sql.ts';
import { andUnknown, between, type ProtocolView, type Unknown } from './view.ts';

/** What each key of `details` means. */
export const sqlDetails: Readonly<Record<string, string>> = {
  system: 'The server, as db.system.name.',
  namespace: 'Database, with the schema where the server has them: `database|schema`.',
  text: 'The statement without literals, as db.query.text.',
  textIsCut: 'The text was cut to `sql.max_text_bytes`.',
  storedProcedure: 'Stored procedure that is called.',
  prepared: 'The statement was prepared apart from its execution.',
  batchSize: 'Executions that were sent as one.',
  batchIndex: 'Position among the statements of one message, from 0.',
  batchCount: 'Statements of that message.',
  transaction: 'State of the transaction block before it: `idle`, `active`, `failed`.',
  statusCode: 'SQLSTATE, or the error number of the vendor.',
  sqlState: 'SQLSTATE beside an error number.',
  returnedRows: 'Rows sent to the client.',
  affectedRows: 'Rows inserted, changed, deleted or copied.',
};

/** @param label of the protocol, for people */
export function sqlView(exchange: SqlExchange, label: string): ProtocolView {
  const { statement, namespace, statusCode, incomplete, system } = exchange;
  const error = errorType(exchange);
  const failed = error !== '' || incomplete !== undefined;
  const startUs = exchange.startUs || exchange.responseStartUs || exchange.endUs;
  return {
    protocolVersion: undefined,
    label,
    startUs,
    endUs: Math.max(exchange.endUs, exchange.firstRowUs, exchange.responseStartUs, startUs),
    open: false,
    summary: readable(exchange) || '?',
    remark: namespace,
    outcome: error !== '' && error === statusCode ? statusCode : failed ? '' : rows(exchange),
    severity: failed ? 'error' : 'ok',
    error,
    incomplete,
    requestBytes: exchange.requestBytes,
    responseBytes: exchange.responseBytes,
    requestUs: undefined,
    firstByteUs: between(exchange.startUs, exchange.responseStartUs),
    firstRowUs: between(exchange.startUs, exchange.firstRowUs),
    firstMessageUs: undefined,
    details: {
      system,
      namespace: namespace || undefined,
      // Without literals, as it stands in db.query.text.
      text: statement?.text || undefined,
      textIsCut: statement?.truncated || undefined,
      storedProcedure: statement?.storedProcedure || undefined,
      prepared: exchange.prepared,
      batchSize: exchange.batchSize > 1 ? exchange.batchSize : undefined,
      batchIndex: exchange.batchCount > 1 ? exchange.batchIndex : undefined,
      batchCount: exchange.batchCount > 1 ? exchange.batchCount : undefined,
      transaction: exchange.transaction || undefined,
      statusCode: statusCode || undefined,
      sqlState: exchange.sqlState || undefined,
      returnedRows: exchange.returnedRows < 0 ? undefined : exchange.returnedRows,
      affectedRows: exchange.affectedRows < 0 ? undefined : exchange.affectedRows,
    },
    unknown: unknownOf(exchange),
  };
}

/** Returned rows; affected ones when none can have been returned; `ok` when the server counts neither. */
function rows({ returnedRows, affectedRows }: SqlExchange): string {
  const count = returnedRows > 0 || affectedRows < 0 ? returnedRows : affectedRows;
  return count < 0 ? 'ok' : `${count} ${count === 1 ? 'row' : 'rows'}`;
}

function unknownOf({ statement, startUs, responseStartUs, incomplete, namespace }: SqlExchange) {
  let unknown: readonly Unknown[] | undefined;
  if (startUs === 0) unknown = andUnknown(unknown, 'request', 'not_seen');
  if (statement === undefined) unknown = andUnknown(unknown, 'text', 'not_seen');
  else if (statement.text === '') unknown = andUnknown(unknown, 'text', 'not_certain');
  if (namespace === '') unknown = andUnknown(unknown, 'namespace', 'not_seen');
  if (responseStartUs === 0) return andUnknown(unknown, 'response', incomplete ?? 'not_seen');
  return incomplete === undefined ? unknown : andUnknown(unknown, 'end', incomplete);
}
