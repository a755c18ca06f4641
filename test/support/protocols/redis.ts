import { limitValues } from '../../../src/config/define.ts';
import type { EndReason, Layer } from '../../../src/flow/connection.ts';
import { findCommand } from '../../../src/protocol/redis/commands.ts';
import { type Pipeline, RedisExchange } from '../../../src/protocol/redis/exchange.ts';
import { RedisLayer } from '../../../src/protocol/redis/layer.ts';
import { type RedisLimits, redisLimits } from '../../../src/protocol/redis/limits.ts';
import { newCounters } from '../../../src/telemetry/counters.ts';
import { accountable, newAccount } from '../wire/memory.ts';
import { newConnection, play, type Step } from './cases.ts';

/**
 * What the golden cases under test/golden/redis say of an exchange, in the format of cases.ts:
 *
 *     --- TEXT -> OUTCOME db=NAMESPACE in=BYTES out=BYTES at=OFFSET times=START,RESPONSE START,END batch=INDEX/COUNT@TRACE OFFSET
 *         size=N argument=WORD incomplete=REASON
 *
 * TEXT is db.query.text, or `_OTHER`; OUTCOME is `ok`, `silent` (CLIENT REPLY OFF), `none`, or `!` and the error's first word.
 */
export function describeExchange(e: RedisExchange, isSplit = false): string {
  const outcome = e.unanswered ? 'silent' : e.failed ? `!${e.statusCode}` : e.responseStartUs === 0 ? 'none' : 'ok';
  const parts = [
    `${e.command.text(e.argumentCount) || '_OTHER'} -> ${outcome} db=${e.namespace}`,
    `in=${e.requestBytes} out=${e.responseBytes} at=${e.streamOffset} times=${e.startUs},${e.responseStartUs},${e.endUs}`,
  ];
  // What is one write depends on where segments begin.
  if (e.batchCount > 1 && !isSplit) parts.push(`batch=${e.batchIndex}/${e.batchCount}@${e.traceOffset}`);
  if (e.batchSize > 1) parts.push(`size=${e.batchSize}`);
  if (e.argument !== '') parts.push(`argument=${e.argument}`);
  if (e.incomplete !== undefined) parts.push(`incomplete=${e.incomplete}`);
  return parts.join(' ');
}

/** A layer of Redis with what it did. */
export class RedisBench {
  readonly counters = newCounters();
  readonly exchanges: RedisExchange[] = [];
  readonly layer: Layer;
  muted = 0;
  private closed = false;

  constructor({ startSeen = true, limits = {} }: { startSeen?: boolean; limits?: Partial<RedisLimits> } = {}) {
    const memory = newAccount();
    const layer = new RedisLayer({
      connection: newConnection(startSeen),
      limits: { ...limitValues(redisLimits), ...limits },
      counters: this.counters,
      memory,
      emit: (exchange) => this.exchanges.push(exchange),
      mute: () => {
        this.muted++;
      },
    });
    this.layer = accountable(layer, memory);
  }

  run(steps: Iterable<Step>): this {
    play(steps, this);
    return this;
  }

  /** Feeds bytes from the middle of a larger buffer that is destroyed afterwards: what was borrowed too long shows. */
  feed(direction: 0 | 1, bytes: Buffer | string, timeUs: number): this {
    const wire = typeof bytes === 'string' ? Buffer.from(bytes, 'latin1') : bytes;
    const chunk = Buffer.concat([Buffer.from('*1\r\n$4\r\n'), wire, Buffer.from('\r\n+OK\r\n*1\r\n$4\r\nPING\r\n')]);
    this.layer.data(direction, chunk, 8, 8 + wire.length, timeUs);
    chunk.fill(0x21);
    return this;
  }

  close(reason: EndReason, timeUs: number): this {
    if (!this.closed) this.layer.close(reason, timeUs);
    this.closed = true;
    return this;
  }

  /** As describeExchange() has them. */
  get emitted(): string[] {
    return this.exchanges.map((exchange) => describeExchange(exchange));
  }
}

/** A command as an array of bulk strings. */
export function command(...words: readonly string[]): string {
  return `*${words.length}\r\n${words.map((word) => `$${Buffer.byteLength(word, 'latin1')}\r\n${word}\r\n`).join('')}`;
}

/** A command with its answer, as the layer makes it. */
export function redisExchange(
  words: readonly string[],
  fields: Partial<RedisExchange> = {},
  pipeline?: Pipeline,
): RedisExchange {
  const [name = '', argument = ''] = words;
  const found = findCommand(Buffer.from(name, 'latin1'), 0, name.length);
  const of = fields.connection ?? newConnection(true);
  const made = new RedisExchange(
    of,
    found,
    words.length,
    argument,
    1000,
    0,
    30,
    pipeline,
    pipeline === undefined ? 0 : 1,
  );
  const answered = {
    namespace: '0',
    responseStartUs: 1100,
    endUs: 1250,
    responseBytes: 5,
    batchCount: pipeline?.count ?? 1,
  };
  return Object.assign(made, answered, fields);
}
