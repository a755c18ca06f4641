import type { IncompleteReason } from '../../exchange/exchange.ts';
import { type Direction, type EndReason, FROM_CLIENT, FROM_SERVER } from '../../flow/connection.ts';
import { latin1Cost, OBSERVER_COST } from '../../memory/cost.ts';
import { count } from '../../telemetry/counters.ts';
import { incompleteReason } from '../endings.ts';
import type { HttpLimits } from '../http/limits.ts';
import type { LayerContext } from '../layer.ts';
import { errorName, NO_ERROR, REFUSED_STREAM } from './frames.ts';
import { type HeaderList, namesRequest, saysNothing } from './headers.ts';
import { Losses } from './losses.ts';
import type { StreamObserver, StreamProtocol } from './observer.ts';
import { Stream } from './stream.ts';
import { StreamTable } from './streams.ts';

/** What a stream's request is called in the ids when the server sent it: apart from all offsets in the client's stream. */
const PUSHED_OFFSET = 2 ** 52;
const CHECK_US = 1_000_000;
/** RFC 3986 section 3.1, in the lower case that it asks for. */
const SCHEME = /^[a-z][a-z0-9+.-]{0,31}$/;

/** Where a header list stood. */
export interface BlockPlace {
  /** Offset of the frame's first byte in its direction's stream. */
  readonly offset: number;
  /** When its first byte was seen, and when all of it was there. */
  readonly firstUs: number;
  readonly timeUs: number;
}

/** What both directions of a connection share: its streams. Everything that is emitted or counted as an exchange goes through here. */
export class Conversation {
  readonly context: LayerContext<HttpLimits>;
  /** Nothing more is read. */
  over = false;
  /** The place in this direction's stream is known. */
  inStep: (direction: Direction) => boolean = () => true;
  private readonly protocols: readonly StreamProtocol[];
  private readonly streams = new StreamTable();
  /** Responses among them that wait for their request. */
  private orphans = 0;
  private readonly losses: Losses;
  private lastClientId = 0;
  /** Requests with an id from here up to before lastClientId were lost. */
  private lostFrom = 0;
  private lostTo = 0;
  /** Responses up to this id came while requests were not read. */
  private unmatchedTo = 0;
  private clientLost = false;
  /** GOAWAY of the server: requests above this id are not processed, and the name of the error. */
  private lastProcessed = 0x7fff_ffff;
  private goAwayError = '';
  /** The error with which either end closes the connection. */
  private closingError = '';
  private parseErrors = 0;
  /** Streams may have lost their end. */
  private doubts = false;
  /** Streams whose observer wants to know the time. */
  private timed = 0;
  private ticking = false;
  private checkUs = 0;

  /** @param joined the connection began before what is seen of it */
  constructor(context: LayerContext<HttpLimits>, protocols: readonly StreamProtocol[], joined: boolean) {
    this.context = context;
    this.protocols = protocols;
    // What was opened before looks like what was lost.
    this.clientLost = joined;
    this.losses = new Losses(joined);
  }

  /** What its streams cost (memory/cost.ts). */
  get cost(): number {
    return this.streams.cost;
  }

  /** Streams held between calls. */
  get size(): number {
    return this.streams.size;
  }

  /** The highest id of a request so far. */
  get lastId(): number {
    return this.lastClientId;
  }

  stream(id: number): Stream | undefined {
    return this.streams.get(id);
  }

  /** The request that an upgrade from HTTP/1.1 began with (RFC 7540 section 3.2): stream 1, half-closed by the client. */
  adopt(stream: Stream): void {
    this.lastClientId = stream.id;
    stream.requestSeen = true;
    stream.requestDone = true;
    this.streams.add(stream);
    this.observe(stream, stream.requestHeaders);
  }

  requestHeaders(id: number, list: HeaderList, endStream: boolean, place: BlockPlace): void {
    const known = this.streams.get(id);
    if (known?.requestSeen) {
      if (known.pushed) return;
      this.touch(known, FROM_CLIENT, place.timeUs);
      // Trailers (RFC 9113 section 8.1).
      if (endStream) this.requestEnded(known, place.timeUs);
      return;
    }
    // Section 5.1.1: ids of new streams only grow; a lower one is that of a stream that is over.
    if ((id & 1) === 0 || id <= this.lastClientId) return;
    if (!namesRequest(list) && (this.clientLost || saysNothing(list))) {
      // Trailers of a request that was not seen, or no request at all.
      if (!this.clientLost) this.parseError(place.timeUs);
      return;
    }
    this.opened(id);
    const stream = known ?? new Stream(this.context.connection, id);
    if (known !== undefined) this.orphans--;
    this.fillRequest(stream, list, place);
    stream.clientMark = this.losses.counts[FROM_CLIENT];
    if (known === undefined && !this.begin(stream, place.timeUs)) return;
    if (endStream) this.requestEnded(stream, place.timeUs);
    if (!stream.over && id > this.lastProcessed) this.refuse(stream, place.timeUs);
  }

  /** PUSH_PROMISE (section 8.4): a request that the server makes in the client's place. */
  promise(id: number, list: HeaderList, place: BlockPlace): void {
    if ((id & 1) !== 0 || id === 0 || this.streams.has(id)) return;
    if (list.method === '' && !list.unknown && list.cut === undefined) return;
    const stream = new Stream(this.context.connection, id);
    this.fillRequest(stream, list, place);
    stream.streamOffset = PUSHED_OFFSET + place.offset;
    stream.requestDone = true;
    this.begin(stream, place.timeUs);
  }

  responseHeaders(id: number, list: HeaderList, endStream: boolean, place: BlockPlace): void {
    const { status } = list;
    const interim = status >= 100 && status < 200;
    const stream = this.streams.get(id) ?? (interim ? undefined : this.newOrphan(id, list));
    if (stream === undefined) return;
    const { timeUs } = place;
    // Section 8.1: any number of interim responses come before the final one.
    if (interim && !endStream) {
      this.touch(stream, FROM_SERVER, timeUs);
      return;
    }
    if (stream.responseSeen || (endStream && saysNothing(list))) this.trailers(stream, list, place);
    else this.finalResponse(stream, list, place);
    if (endStream) this.responseEnded(stream, timeUs);
    else if (stream.method === 'CONNECT' && status < 300 && stream.observer === undefined && stream.requestSeen) {
      // Section 8.5, RFC 8441 section 5: what follows is another protocol's. The exchange ends as that of an upgrade does.
      stream.answered = true;
      this.finish(stream, stream.damage, timeUs);
    }
  }

  private finalResponse(stream: Stream, list: HeaderList, place: BlockPlace): void {
    stream.statusCode = list.status;
    stream.responseHeaders = list.headers();
    this.streams.addCost(stream, list.headersCost);
    stream.responseStartUs = place.firstUs;
    stream.endUs = place.timeUs;
    stream.responseSeen = true;
    stream.serverMark = this.losses.counts[FROM_SERVER];
    stream.lastUs = place.timeUs;
    this.noteDamage(stream, list, list.status === 0);
    noteFields(stream, list);
    if (stream.observer === undefined) this.observe(stream, stream.responseHeaders);
    else stream.observer.response?.(place.timeUs);
  }

  private trailers(stream: Stream, list: HeaderList, place: BlockPlace): void {
    const missed = this.missedResponse(stream);
    this.touch(stream, FROM_SERVER, place.timeUs);
    stream.responseTrailers = list.headers();
    this.streams.addCost(stream, list.headersCost);
    noteFields(stream, list);
    if (stream.responseSeen) return;
    // The response that they end was not seen, or there was none.
    if (stream.responseStartUs === 0) stream.responseStartUs = place.firstUs;
    stream.damage ??= missed;
  }

  /** Content of a DATA frame; what a hole took of it counts, too. */
  data(stream: Stream, direction: Direction, length: number, timeUs: number, firstUs: number): void {
    this.touch(stream, direction, timeUs);
    if (direction === FROM_CLIENT) stream.requestBodyBytes += length;
    else {
      stream.responseBodyBytes += length;
      if (stream.responseSeen || stream.responseStartUs !== 0) return;
      stream.responseStartUs = firstUs;
      stream.damage ??= 'gap';
    }
  }

  /** Why what belongs to a response comes without its beginning. */
  private missedResponse(stream: Stream): IncompleteReason {
    if (stream.serverMark < 0) return 'gap';
    return this.losses.counts[FROM_SERVER] > 0 ? this.losses.reasons[FROM_SERVER] : 'protocol_error';
  }

  /** A frame of the stream: what was lost of its direction since the last one may have been part of it. */
  private touch(stream: Stream, direction: Direction, timeUs: number): void {
    stream.lastUs = timeUs;
    const losses = this.losses.counts[direction];
    if (direction === FROM_CLIENT) {
      if (stream.clientMark !== losses) this.missed(stream, direction, timeUs);
      stream.clientMark = losses;
    } else {
      // Before the final response there is nothing to miss.
      if (stream.serverMark !== losses && stream.responseSeen) this.missed(stream, direction, timeUs);
      stream.serverMark = losses;
    }
  }

  private missed(stream: Stream, direction: Direction, timeUs: number): void {
    stream.damage ??= this.losses.reasons[direction];
    stream.observer?.gap(direction, -1, timeUs);
  }

  requestEnded(stream: Stream, timeUs: number): void {
    if (stream.requestDone) return;
    stream.requestDone = true;
    stream.requestEndUs = timeUs;
    stream.observer?.end(FROM_CLIENT, timeUs);
    if (stream.answered) this.finishAnswered(stream);
  }

  responseEnded(stream: Stream, timeUs: number): void {
    if (stream.answered) return;
    stream.answered = true;
    stream.endUs = timeUs;
    stream.observer?.end(FROM_SERVER, timeUs);
    if (!stream.requestSeen) return;
    // The end of a request may have been lost, and is of no importance any more.
    if (stream.requestDone || stream.clientMark !== this.losses.counts[FROM_CLIENT]) this.finishAnswered(stream);
  }

  /** RST_STREAM (section 6.4). */
  reset(id: number, code: number, timeUs: number): void {
    const stream = this.streams.get(id);
    if (stream === undefined) return;
    // Section 8.1: a server that has answered may ask for no more of the request.
    if (stream.answered) this.finishAnswered(stream);
    else this.kill(stream, errorName(code), timeUs);
  }

  /** GOAWAY (section 6.8): streams of the receiver above the last id were not processed. */
  goAway(direction: Direction, lastId: number, code: number, timeUs: number): void {
    if (code !== NO_ERROR) this.closingError = errorName(code);
    const error = code === NO_ERROR ? REFUSED_STREAM : errorName(code);
    if (direction === FROM_SERVER) {
      this.lastProcessed = Math.min(this.lastProcessed, lastId);
      this.goAwayError = error;
    }
    for (const stream of this.streams.values()) {
      if (stream.pushed !== (direction === FROM_CLIENT) || stream.id <= lastId) continue;
      if (stream.answered) this.finishAnswered(stream);
      else this.kill(stream, error, timeUs);
    }
  }

  /** The place in this direction was lost; streams that are open may have lost anything. */
  lost(direction: Direction, timeUs: number, reason: IncompleteReason): void {
    this.losses.add(direction, reason, timeUs);
    if (direction === FROM_CLIENT) this.clientLost = true;
    if (this.streams.size > 0) this.setDoubts(true);
  }

  hasLost(direction: Direction): boolean {
    return this.losses.counts[direction] > 0;
  }

  parseError(timeUs: number): void {
    if (this.over) return;
    count(this.context.counters.parseErrors, 'http2');
    if (++this.parseErrors > this.context.limits.httpParseErrors) this.die('protocol_error', timeUs);
  }

  /** No more bytes of this direction. */
  ended(direction: Direction, reason: EndReason, timeUs: number): void {
    for (const stream of this.streams.values()) {
      if (direction === FROM_CLIENT) {
        if (stream.answered || !stream.requestSeen) this.finishAnswered(stream);
        else this.requestEnded(stream, stream.requestEndUs);
      } else if (stream.requestSeen) this.giveUp(stream, incompleteReason(reason), timeUs);
    }
  }

  close(reason: EndReason, timeUs: number): void {
    for (const stream of this.streams.values()) this.giveUp(stream, incompleteReason(reason), timeUs);
    this.release();
  }

  private die(reason: IncompleteReason, timeUs: number): void {
    count(this.context.counters.connections.givenUp, reason);
    for (const stream of this.streams.values()) this.giveUp(stream, reason, timeUs);
    this.release();
    this.context.mute();
  }

  private release(): void {
    this.over = true;
    for (const stream of this.streams.values()) this.unobserve(stream);
    this.streams.clear();
    this.setDoubts(false);
  }

  /** Gives up streams that lost their end, so that they do not stay for as long as their connection. */
  tick(timeUs: number): void {
    if (!this.ticking || timeUs < this.checkUs) return;
    this.checkUs = timeUs + CHECK_US;
    if (this.timed > 0) for (const stream of this.streams.values()) stream.observer?.tick?.(timeUs);
    if (!this.doubts) return;
    let doubts = false;
    for (const stream of this.streams.values()) {
      if (!this.losses.inDoubt(stream)) continue;
      if (stream.answered || !stream.requestSeen) this.finishAnswered(stream);
      else if (timeUs - this.losses.since(stream) > this.context.limits.http2LostStreamUs) {
        this.finish(stream, this.losses.reasonOf(stream), this.losses.since(stream));
      } else doubts = true;
    }
    if (!doubts) this.setDoubts(false);
  }

  private setDoubts(doubts: boolean): void {
    this.doubts = doubts;
    this.wantTicks();
  }

  private wantTicks(): void {
    const wanted = this.doubts || this.timed > 0;
    if (this.ticking === wanted) return;
    this.ticking = wanted;
    this.context.wantTicks(wanted);
  }

  private fillRequest(stream: Stream, list: HeaderList, place: BlockPlace): void {
    stream.requestSeen = true;
    stream.method = list.method;
    // RFC 9113 section 8.5: CONNECT has no path, its target is the authority.
    stream.target = list.path === '' && list.method === 'CONNECT' ? list.authority : list.path;
    stream.scheme = list.scheme === 'https' || SCHEME.test(list.scheme) ? list.scheme : '';
    stream.requestHeaders = list.headers();
    this.streams.addCost(stream, list.headersCost + latin1Cost(stream.target));
    stream.startUs = place.firstUs;
    stream.requestEndUs = place.timeUs;
    stream.lastUs = place.timeUs;
    stream.streamOffset = place.offset;
    // The response may be among what is not read, or was not taken for one.
    const inStep = this.inStep(FROM_SERVER) && stream.id > this.unmatchedTo;
    if (!stream.responseSeen) stream.serverMark = inStep ? this.losses.counts[FROM_SERVER] : -1;
    stream.clientMark = this.losses.counts[FROM_CLIENT];
    this.noteDamage(stream, list, stream.method === '' || stream.target === '');
    if (stream.observer === undefined) this.observe(stream, stream.requestHeaders);
  }

  private noteDamage(stream: Stream, list: HeaderList, incomplete: boolean): void {
    if (list.cut !== undefined) stream.damage ??= list.cut;
    else if (list.overflow) stream.damage ??= 'limit';
    else if (incomplete) stream.damage ??= list.unknown ? 'gap' : 'protocol_error';
  }

  /** A new id of the client's. */
  private opened(id: number): void {
    if (this.clientLost) {
      this.lostFrom = this.lastClientId + 1;
      this.lostTo = id;
      this.clientLost = false;
    }
    this.lastClientId = id;
    if (this.orphans === 0) return;
    // Requests come in the order of their ids: those of lower ones will not come any more.
    for (const stream of this.streams.values()) {
      if (!stream.requestSeen && stream.id < id) this.dropOrphan(stream);
    }
  }

  /** @returns false when there are too many streams: the exchange was given up at once */
  private begin(stream: Stream, timeUs: number): boolean {
    if (this.streams.size >= this.context.limits.http2Streams && !this.makeRoom()) {
      this.finish(stream, 'limit', timeUs);
      return false;
    }
    this.streams.add(stream);
    if (stream.serverMark < 0) this.setDoubts(true);
    return true;
  }

  /** Gives up a stream whose end may have been lost. */
  private makeRoom(): boolean {
    if (!this.doubts) return false;
    for (const stream of this.streams.values()) {
      if (!this.losses.inDoubt(stream) || !stream.requestSeen) continue;
      if (stream.answered) this.finishAnswered(stream);
      else this.finish(stream, this.losses.reasonOf(stream), this.losses.since(stream));
      return true;
    }
    return false;
  }

  /** A response without a request: reassembly may hold up the request, else it was never seen. */
  private newOrphan(id: number, list: HeaderList): Stream | undefined {
    if (saysNothing(list)) return undefined;
    const waits = (id & 1) === 1 && id > this.lastClientId && this.inStep(FROM_CLIENT);
    if (!waits || this.streams.size >= this.context.limits.http2Streams) {
      const unseen = id > this.lastClientId || (id >= this.lostFrom && id < this.lostTo);
      this.unmatchedTo = Math.max(this.unmatchedTo, id);
      if (unseen && (id & 1) === 1 && list.status >= 200) count(this.context.counters.incomplete, 'request_not_seen');
      return undefined;
    }
    const stream = new Stream(this.context.connection, id);
    stream.clientMark = this.losses.counts[FROM_CLIENT];
    this.streams.add(stream);
    this.orphans++;
    return stream;
  }

  private dropOrphan(stream: Stream): void {
    this.orphans--;
    this.streams.remove(stream);
    this.unobserve(stream);
    stream.over = true;
    count(this.context.counters.incomplete, 'request_not_seen');
  }

  private observe(stream: Stream, fields: ReadonlyMap<string, readonly string[]>): void {
    if (this.protocols.length === 0) return;
    const contentType = fields.get('content-type')?.[0] ?? '';
    for (const protocol of this.protocols) {
      stream.observer = protocol.open(contentType, stream, this.context);
      if (stream.observer === undefined) continue;
      this.streams.addCost(stream, OBSERVER_COST);
      if (stream.observer.tick !== undefined) {
        this.timed++;
        this.wantTicks();
      }
      return;
    }
  }

  private unobserve(stream: Stream): StreamObserver | undefined {
    const { observer } = stream;
    stream.observer = undefined;
    if (observer?.tick === undefined) return observer;
    this.timed--;
    this.wantTicks();
    return observer;
  }

  private refuse(stream: Stream, timeUs: number): void {
    this.kill(stream, this.goAwayError, timeUs);
  }

  private kill(stream: Stream, error: string, timeUs: number): void {
    stream.errorCode = error;
    this.finish(stream, 'stream_reset', timeUs);
  }

  /** Ends the stream as it is: whole when its response is, else incomplete. */
  private giveUp(stream: Stream, reason: IncompleteReason, timeUs: number): void {
    if (stream.answered) this.finishAnswered(stream);
    else if (this.losses.inDoubt(stream)) this.finish(stream, this.losses.reasonOf(stream), this.losses.since(stream));
    else {
      stream.errorCode = this.closingError;
      this.finish(stream, reason, timeUs);
    }
  }

  /** The response is whole; of the request, something may be lost. */
  private finishAnswered(stream: Stream): void {
    if (this.losses.requestInDoubt(stream)) stream.damage ??= this.losses.reasons[FROM_CLIENT];
    this.finish(stream, stream.damage, stream.endUs);
  }

  private finish(stream: Stream, incomplete: IncompleteReason | undefined, timeUs: number): void {
    if (!stream.requestSeen) {
      this.dropOrphan(stream);
      return;
    }
    this.streams.remove(stream);
    stream.over = true;
    const { counters } = this.context;
    stream.endUs = timeUs;
    if (incomplete !== undefined && stream.observer?.isOver?.() !== true) {
      stream.incomplete = incomplete;
      count(counters.incomplete, incomplete);
    }
    const observer = this.unobserve(stream);
    const exchange = observer === undefined ? stream : observer.finish(stream, !stream.fieldsMissed);
    count(counters.exchanges, exchange.protocol);
    this.context.emit(exchange);
  }
}

function noteFields(stream: Stream, list: HeaderList): void {
  if (list.unknown || list.overflow || list.cut !== undefined) stream.fieldsMissed = true;
}
