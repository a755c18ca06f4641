import type { IncompleteReason } from '../../exchange/exchange.ts';
import type { Connection } from '../../flow/connection.ts';
import { type Counters, count } from '../../telemetry/counters.ts';
import { Outcomes } from '../shared/outcomes.ts';
import { Recovery } from '../shared/recovery.ts';
import {
  CLIENT_REPLY,
  DISCARD,
  EXEC,
  MONITOR,
  MULTI,
  QUIT,
  REPLICATION,
  RESET,
  SCRIPT,
  SELECT,
  SHUTDOWN,
  SUBSCRIBE,
  UNSUBSCRIBE,
} from './commands.ts';
import { Pipeline, RedisExchange } from './exchange.ts';
import type { RedisLimits } from './limits.ts';
import { ReplyReader, type ReplySink } from './replies.ts';
import { ARRAY, BULK_STRING, PUSH, SIMPLE_STRING } from './reply-types.ts';
import { QUEUED, SUBSCRIBED, UNSUBSCRIBED } from './reply-words.ts';
import { RequestReader, type RequestSink } from './requests.ts';
import { CommandRing } from './ring.ts';

/** What is used of the world. */
export interface RedisContext {
  readonly connection: Connection;
  readonly limits: RedisLimits;
  readonly counters: Counters;
  emit(exchange: RedisExchange): void;
  mute(): void;
}

const LF = 0x0a;
const DATABASE = /^\d{1,9}$/;
/** A SHA1, or a function's name: "[a-zA-Z0-9_]". */
const SCRIPT_NAME = /^\w{1,64}$/;
/** Modes of CLIENT REPLY by which the server answers less. */
const SILENT_MODE = /^(?:off|skip)$/i;
const QUEUED_COST = 256;

/** What both directions of a connection share. Everything that is emitted or counted as an exchange goes through here. */
export class ConnectionState implements RequestSink, ReplySink {
  readonly requests: RequestReader;
  readonly replies: ReplyReader;
  readonly ring: CommandRing;
  /** Nothing more is read. */
  over = false;
  readonly recovery: Recovery;
  /** Replies that nobody asked for are passed over instead of held. */
  acceptsUnasked = false;
  private readonly context: RedisContext;
  private readonly outcomes: Outcomes<RedisExchange>;
  /** The database of the connection; empty when it is not known. */
  private namespace: string;
  /** In a transaction; undefined when it is not known. */
  private inMulti: boolean | undefined;
  /** The same as the client has asked for it, which does not wait for answers; undefined when it was not seen. */
  private asksInMulti: boolean | undefined;
  /** Commands of the transaction, which have their `QUEUED`. */
  private queued: RedisExchange[] = [];
  /** Commands of the transaction may have been lost, so that outcomes cannot be assigned. */
  private queuedInDoubt: boolean;
  private elements = 0;
  /** CLIENT REPLY OFF, CLIENT REPLY SKIP. */
  private repliesOff = false;
  private skipsNext = false;
  private pipeline: Pipeline | undefined;
  private lastOffset = -1;
  /** The first command of the ring, when a part of its answers is there, and how many are to come. */
  private current: RedisExchange | undefined;
  private answersLeft = 0;

  constructor(context: RedisContext, startSeen: boolean) {
    this.context = context;
    const { limits } = context;
    this.recovery = new Recovery(limits.redisQuietUs);
    this.outcomes = new Outcomes<RedisExchange>(context, 'redis', limits.redisParseErrors);
    this.ring = new CommandRing(limits.redisPipelineDepth);
    this.requests = new RequestReader(this, startSeen);
    this.replies = new ReplyReader(this, limits.redisReplyDepth, startSeen);
    this.namespace = startSeen ? '0' : '';
    this.inMulti = startSeen ? false : undefined;
    this.asksInMulti = this.inMulti;
    this.queuedInDoubt = !startSeen;
  }

  /** Commands held between calls. */
  get heldObjects(): number {
    return this.ring.length + this.queued.length;
  }

  /** What is held between calls, apart from the readers' buffers (memory/cost.ts). */
  get cost(): number {
    return this.over ? 0 : this.ring.cost + this.queued.length * QUEUED_COST;
  }

  // --- Commands ------------------------------------------------------------------------------------------------------------------------

  request(): void {
    const { requests, ring } = this;
    const { command, offset } = requests;
    let index = 0;
    if (requests.continues && this.lastOffset >= 0) {
      if (this.pipeline === undefined) {
        this.pipeline = new Pipeline(this.lastOffset);
        ring.beginPipeline(this.pipeline);
      }
      index = this.pipeline.count++;
    } else this.pipeline = undefined;
    this.lastOffset = offset;
    let isUnanswered = this.repliesOff || this.skipsNext;
    this.skipsNext = false;
    let text = '';
    switch (command.kind) {
      case SELECT:
        text = this.argument(DATABASE);
        break;
      case SCRIPT:
        text = this.argument(SCRIPT_NAME);
        break;
      case CLIENT_REPLY:
        // In a transaction it is queued like any other.
        if (this.asksInMulti ?? this.inMulti) text = this.argument(SILENT_MODE, 2);
        else isUnanswered = this.replyMode(isUnanswered);
        break;
      case MULTI:
        this.asksInMulti = true;
        break;
      case EXEC:
      case DISCARD:
      case RESET:
        this.asksInMulti = false;
        break;
    }
    if (!this.push(index, text, isUnanswered)) {
      this.giveUpAll('limit', requests.nowUs);
      this.recovery.uncertain = true;
      this.push(index, text, isUnanswered);
    }
    if (isUnanswered) this.passUnanswered();
  }

  private push(index: number, text: string, isUnanswered: boolean): boolean {
    const { command, argumentCount, startUs, offset, size } = this.requests;
    return this.ring.push(command, argumentCount, startUs, offset, size, this.pipeline, index, text, isUnanswered);
  }

  private argument(pattern: RegExp, index: 1 | 2 = 1): string {
    const text = this.requests.argument(index);
    return text !== undefined && pattern.test(text) ? text : '';
  }

  /** @returns whether this command itself has no answer */
  private replyMode(isUnanswered: boolean): boolean {
    switch (this.requests.argument(2)?.toUpperCase()) {
      case 'ON':
        this.repliesOff = false;
        return false;
      case 'OFF':
        this.repliesOff = true;
        return true;
      case 'SKIP':
        this.skipsNext = !this.repliesOff;
        return true;
      default:
        return isUnanswered;
    }
  }

  requestMalformed(): void {
    this.requestsLost();
    this.parseError(this.requests.nowUs);
  }

  /** Commands were lost: what they changed is not known. */
  requestsLost(): void {
    this.namespace = '';
    this.inMulti = undefined;
    this.asksInMulti = undefined;
    this.queuedInDoubt = true;
    this.pipeline = undefined;
    this.lastOffset = -1;
  }

  // --- Replies -------------------------------------------------------------------------------------------------------------------------

  begins(type: number): boolean {
    const { ring, replies } = this;
    if (ring.length === 0)
      return type === PUSH || this.recovery.uncertain || this.acceptsUnasked || !this.requests.synced;
    const { kind } = ring.command;
    if (kind === EXEC) {
      if (type === ARRAY && this.queued.some(isSilencing)) {
        // The array has fewer elements than it says: where it ends is not known.
        replies.lose();
        this.replyMalformed();
        return false;
      }
      replies.wantsElements = true;
      this.elements = 0;
    } else if (kind === REPLICATION && !this.recovery.uncertain && (type === LF || type === BULK_STRING)) {
      // SYNC is answered by the file itself; before it, and before the answer to PSYNC, a master keeps the connection alive by LF.
      replies.startUs = replies.nowUs;
      replies.size = 0;
      this.emit(this.take());
      this.becomeOpaque('redis_replication', replies.nowUs);
    }
    return true;
  }

  reply(): void {
    const { ring, replies } = this;
    if (this.recovery.uncertain) return;
    if (ring.length === 0) {
      count(this.context.counters.incomplete, 'request_not_seen');
      return;
    }
    const { kind } = ring.command;
    if (replies.word === QUEUED && replies.type === SIMPLE_STRING && this.inMulti !== false) {
      this.inMulti = true;
      this.queue(this.take());
    } else if ((kind === SUBSCRIBE || kind === UNSUBSCRIBE) && replies.type === ARRAY) this.channelReply();
    else if (kind === EXEC) this.executed();
    else this.answered(kind, this.take());
    this.passUnanswered();
  }

  /** The server has chosen the database, and counts SELECT itself to it (MONITOR). */
  private selected(exchange: RedisExchange): void {
    this.namespace = exchange.argument;
    exchange.namespace = exchange.argument;
  }

  private answered(kind: number, exchange: RedisExchange): void {
    if (kind === SELECT && !exchange.failed) this.selected(exchange);
    this.emit(exchange);
    if (exchange.failed) {
      if (kind === MULTI) this.asksInMulti = this.inMulti;
      return;
    }
    switch (kind) {
      case SELECT:
        return;
      case MULTI:
        this.inMulti = true;
        this.queuedInDoubt = false;
        return;
      case DISCARD:
        this.notRun();
        return;
      case RESET:
        this.notRun();
        this.namespace = '0';
        this.repliesOff = false;
        return;
      case MONITOR:
        this.becomeOpaque('redis_monitor', exchange.endUs);
        return;
      case REPLICATION:
        this.becomeOpaque('redis_replication', exchange.endUs);
        return;
      case QUIT:
        return;
      default:
        this.inMulti ??= false;
    }
  }

  /** A command of a transaction has its QUEUED; EXEC says what becomes of it. */
  private queue(exchange: RedisExchange): void {
    if (this.queued.length < this.context.limits.redisQueuedCommands) {
      this.queued.push(exchange);
      return;
    }
    this.queuedInDoubt = true;
    exchange.incomplete = 'limit';
    this.emit(exchange);
  }

  element(): void {
    const { replies, elements } = this;
    const exchange = this.queued[elements];
    this.elements = elements + 1;
    if (exchange === undefined || this.recovery.uncertain || !this.isAssigned) return;
    exchange.namespace = this.namespace;
    if (replies.isError) {
      exchange.failed = true;
      exchange.statusCode = replies.word;
    } else if (exchange.command.kind === SELECT) this.selected(exchange);
    this.emit(exchange);
  }

  /** Each element of EXEC's answer belongs to one of the commands that are known: none was lost, or their number shows it. */
  private get isAssigned(): boolean {
    return !this.queuedInDoubt || this.replies.outerElements === this.queued.length;
  }

  /** The answer to EXEC is whole. */
  private executed(): void {
    const { replies, queued } = this;
    const { isNull, isError, elements } = replies;
    const exchange = this.take();
    if (isError || isNull) this.notRun();
    else {
      if (elements >= 2) exchange.batchSize = elements;
      const hasChannels = queued.some(({ command }) => command.kind === SUBSCRIBE);
      // What has its outcome was emitted with it.
      this.giveUpQueued('gap', this.isAssigned ? this.elements : 0);
      this.queued = [];
      this.queuedInDoubt = false;
      this.inMulti = false;
      if (hasChannels) {
        this.emit(exchange);
        this.becomeOpaque('redis_pubsub', exchange.endUs);
        return;
      }
    }
    this.emit(exchange);
  }

  /** One of the answers to SUBSCRIBE or UNSUBSCRIBE, which come out of band in RESP3. */
  pushed(): void {
    const { ring, replies } = this;
    if (this.recovery.uncertain || ring.length === 0) return;
    const { kind } = ring.command;
    const expected = kind === SUBSCRIBE ? SUBSCRIBED : kind === UNSUBSCRIBE ? UNSUBSCRIBED : '';
    if (replies.word !== expected || expected === '') return;
    this.channelReply();
    this.passUnanswered();
  }

  /** Each channel is answered for itself. */
  private channelReply(): void {
    const { ring, replies } = this;
    this.answersLeft = this.current === undefined ? Math.max(1, ring.argumentCount - 1) : this.answersLeft;
    this.answersLeft--;
    const isSubscribed = replies.type === ARRAY && ring.command.kind === SUBSCRIBE;
    if (this.answersLeft > 0) {
      this.current ??= this.newExchange();
      this.addReply(this.current);
      return;
    }
    const exchange = this.take();
    this.emit(exchange);
    // In RESP2 a message looks like a reply.
    if (isSubscribed) this.becomeOpaque('redis_pubsub', exchange.endUs);
  }

  replyMalformed(): void {
    this.repliesLost('protocol_error', this.replies.nowUs);
    this.parseError(this.replies.nowUs);
  }

  /** Replies were lost: those to the commands that wait may be among them. */
  repliesLost(reason: IncompleteReason, timeUs: number): void {
    this.giveUpAll(reason, timeUs);
  }

  /** An answer came although all that was asked for is answered: it belongs to a command that was not seen. */
  loseTrack(timeUs: number): void {
    this.giveUpAll('gap', timeUs);
    this.recovery.uncertain = true;
  }

  // --- What becomes of them ------------------------------------------------------------------------------------------------------------

  private newExchange(): RedisExchange {
    const { ring } = this;
    const exchange = new RedisExchange(
      this.context.connection,
      ring.command,
      ring.argumentCount,
      ring.text,
      ring.startUs,
      ring.offset,
      ring.size,
      ring.pipeline,
      ring.index,
    );
    exchange.namespace = this.namespace;
    if (ring.pipeline !== undefined) exchange.batchCount = ring.pipeline.count;
    return exchange;
  }

  private addReply(exchange: RedisExchange): void {
    const { replies } = this;
    if (exchange.responseStartUs === 0) exchange.responseStartUs = replies.startUs;
    exchange.endUs = replies.nowUs;
    exchange.responseBytes += replies.size;
    if (!replies.isError) return;
    exchange.failed = true;
    exchange.statusCode = replies.word;
  }

  /** Takes the first command off the ring, with its answer. */
  private take(): RedisExchange {
    const exchange = this.current ?? this.newExchange();
    this.current = undefined;
    this.addReply(exchange);
    this.ring.shift();
    return exchange;
  }

  /** Those at the head of the ring that the server does not answer are done. */
  private passUnanswered(): void {
    const { ring } = this;
    while (ring.isUnanswered) {
      const exchange = this.newExchange();
      exchange.unanswered = true;
      exchange.endUs = exchange.startUs;
      // Nothing confirms it.
      if (exchange.command.kind === SELECT) this.namespace = '';
      ring.shift();
      this.emit(exchange);
    }
  }

  private emit(exchange: RedisExchange): void {
    this.outcomes.emit(exchange);
  }

  /** Nothing more is to be known of the commands that wait. */
  giveUpAll(reason: IncompleteReason, timeUs: number): void {
    const { ring } = this;
    if (this.queued.length > 0) {
      this.giveUpQueued(reason, 0);
      this.queued = [];
    }
    if (ring.length > 0) this.inMulti = undefined;
    while (ring.length > 0) {
      const exchange = this.current ?? this.newExchange();
      this.current = undefined;
      const { kind } = exchange.command;
      exchange.unanswered = ring.isUnanswered;
      exchange.endUs = timeUs;
      if (kind === SELECT || kind === RESET) this.namespace = '';
      // The end of the connection is the answer to these.
      const isAnswered = (kind === SHUTDOWN || kind === QUIT) && reason.startsWith('connection_');
      if (!isAnswered && !exchange.unanswered) exchange.incomplete = reason;
      ring.shift();
      this.emit(exchange);
    }
  }

  /** @param from the first whose outcome is not known */
  private giveUpQueued(reason: IncompleteReason, from: number): void {
    for (let i = from; i < this.queued.length; i++) {
      const exchange = this.queued[i]!;
      exchange.incomplete = reason;
      if (exchange.command.kind === SELECT) this.namespace = '';
      this.emit(exchange);
    }
  }

  /** The commands of the transaction never ran. */
  private notRun(): void {
    if (this.queued.length > 0) count(this.context.counters.incomplete, 'not_run', this.queued.length);
    this.queued = [];
    this.queuedInDoubt = false;
    this.inMulti = false;
  }

  private parseError(timeUs: number): void {
    if (!this.outcomes.parseError()) return;
    this.end('protocol_error', timeUs);
    this.context.mute();
  }

  /** The rest of the connection is passed over. @param what a key of `connections.opaque` */
  private becomeOpaque(what: string, timeUs: number): void {
    count(this.context.counters.connections.opaque, what);
    this.end('limit', timeUs);
    this.context.mute();
  }

  end(reason: IncompleteReason, timeUs: number): void {
    if (this.over) return;
    this.over = true;
    // Without EXEC a transaction ends with its connection.
    if (this.ring.length === 0 && !this.queuedInDoubt && reason.startsWith('connection_')) this.notRun();
    this.giveUpAll(reason, timeUs);
    this.ring.clear();
    this.requests.stop();
    this.replies.stop();
  }
}

/** Once it runs, the server leaves out its own answer, and others. Valkey refuses it in a transaction from version 9 on. */
function isSilencing({ command, argument }: RedisExchange): boolean {
  return command.kind === CLIENT_REPLY && argument !== '';
}
