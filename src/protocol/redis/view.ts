import { andUnknown, between, type ProtocolView, type Unknown, type Viewer } from '../../export/view.ts';
import { OTHER, SCRIPT } from './commands.ts';
import type { RedisExchange } from './exchange.ts';
import { errorType } from './span.ts';

/** What a person sees of a command. */
export const redisView: Viewer<RedisExchange> = {
  details: {
    system: '`redis`, as db.system.name.',
    namespace: 'Number of the database.',
    operation: 'Name of the command, as db.operation.name.',
    text: 'The command with a `?` for each argument, as db.query.text.',
    script: 'Name of the function (FCALL) or SHA1 of the script (EVALSHA).',
    batchSize: 'Commands that EXEC ran.',
    batchIndex: 'Position among the commands of one write, from 0.',
    batchCount: 'Commands of that write.',
    statusCode: 'First word of the error.',
    unanswered: 'The server sends no answer (CLIENT REPLY OFF or SKIP).',
  },
  view: viewOf,
};

function viewOf(exchange: RedisExchange): ProtocolView {
  const { command, argument, argumentCount, namespace, statusCode, incomplete, startUs } = exchange;
  const error = errorType(exchange);
  const failed = error !== '' || incomplete !== undefined;
  const script = command.kind === SCRIPT && argument !== '' ? argument : undefined;
  const name = script === undefined ? command.name : `${command.name} ${script}`;
  return {
    protocolVersion: undefined,
    label: 'redis',
    startUs,
    endUs: Math.max(exchange.endUs, startUs),
    open: false,
    summary: command === OTHER ? '?' : name,
    remark: namespace,
    outcome: statusCode !== '' ? statusCode : failed ? '' : exchange.unanswered ? 'no reply' : 'ok',
    severity: failed ? 'error' : 'ok',
    error,
    incomplete,
    requestBytes: exchange.requestBytes,
    responseBytes: exchange.responseBytes,
    requestUs: undefined,
    firstByteUs: between(startUs, exchange.responseStartUs),
    firstRowUs: undefined,
    firstMessageUs: undefined,
    details: {
      system: 'redis',
      namespace: namespace || undefined,
      operation: command.name,
      text: command.text(argumentCount) || undefined,
      script,
      batchSize: exchange.batchSize > 1 ? exchange.batchSize : undefined,
      batchIndex: exchange.batchCount > 1 ? exchange.batchIndex : undefined,
      batchCount: exchange.batchCount > 1 ? exchange.batchCount : undefined,
      statusCode: statusCode || undefined,
      unanswered: exchange.unanswered || undefined,
    },
    unknown: unknownOf(exchange),
  };
}

function unknownOf({ command, namespace, responseStartUs, unanswered, incomplete }: RedisExchange) {
  let unknown: readonly Unknown[] | undefined;
  if (command === OTHER) unknown = andUnknown(unknown, 'text', 'not_certain');
  if (namespace === '') unknown = andUnknown(unknown, 'namespace', 'not_seen');
  if (responseStartUs === 0 && !unanswered) return andUnknown(unknown, 'response', incomplete ?? 'not_seen');
  return incomplete === undefined ? unknown : andUnknown(unknown, 'end', incomplete);
}
