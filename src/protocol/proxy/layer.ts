/**
 * Takes the headers of the PROXY protocol off the beginning of a connection, or of what is inside TLS, and gives the rest to the layer behind.
 *
 * A sender does not wait for the server, which may greet first nevertheless (MySQL): the server's bytes pass untouched. With the first byte
 * of the client that begins no header, this layer gives way to the one behind and costs nothing from then on.
 *
 * Relays that know nothing of each other put one header before another: the last one that names a client was written by the one that is
 * farthest from here, so its client counts. A server that reads one header alone refuses what follows, so nothing false is made of it.
 */
import { type Direction, type EndReason, FROM_CLIENT, type Layer } from '../../flow/connection.ts';
import { count } from '../../telemetry/counters.ts';
import type { LayerContext } from '../layer.ts';
import { beginsWithHeader, HeaderReader, mayBeginHeader } from './header.ts';

/** @param next the layer of what follows the header, or of a connection without one */
export function createProxyLayer(context: LayerContext, next: Layer): Layer {
  return new ProxyLayer(context, next);
}

class ProxyLayer implements Layer {
  private readonly context: LayerContext;
  private readonly next: Layer;
  private reader: HeaderReader | undefined;
  private headers = 0;
  /** All that comes is the next layer's. */
  private passing = false;
  /** The next layer has got bytes. */
  private begun = false;
  private abandoned = false;
  private heldUs = 0;
  private heldFirstUs = 0;

  constructor(context: LayerContext, next: Layer) {
    this.context = context;
    this.next = next;
  }

  data(direction: Direction, bytes: Buffer, start: number, end: number, timeUs: number, firstUs = timeUs): void {
    if (this.abandoned || end <= start) return;
    if (this.passing) this.next.data(direction, bytes, start, end, timeUs, firstUs);
    else if (direction === FROM_CLIENT) this.examine(bytes, start, end, timeUs, firstUs);
    else if (this.isFromClient(bytes, start, end)) this.examine(bytes, start, end, timeUs, firstUs);
    else {
      this.begun = true;
      this.next.data(direction, bytes, start, end, timeUs, firstUs);
    }
  }

  gap(direction: Direction, length: number, timeUs: number): void {
    if (this.abandoned) return;
    if (this.passing || direction !== FROM_CLIENT) {
      this.begun = true;
      this.next.gap(direction, length, timeUs);
      return;
    }
    const behind = this.reader?.gap(length) ?? -1;
    if (behind < 0) {
      const held = this.reader?.heldBytes ?? 0;
      this.giveWay();
      this.next.gap(direction, held + length, timeUs);
      return;
    }
    if (this.reader!.outcome === 'done') this.headerDone();
    if (behind === 0) return;
    this.giveWay();
    this.next.gap(direction, behind, timeUs);
  }

  lossAhead(direction: Direction): void {
    if (!this.abandoned) this.next.lossAhead?.(direction);
  }

  end(direction: Direction, reason: EndReason, timeUs: number): void {
    if (this.abandoned) return;
    if (direction === FROM_CLIENT && !this.passing) {
      this.passHeld();
      this.giveWay();
    }
    this.next.end(direction, reason, timeUs);
  }

  close(reason: EndReason, timeUs: number): void {
    if (!this.abandoned && !this.passing) this.passHeld();
    this.next.close(reason, timeUs);
  }

  tick(timeUs: number): void {
    this.next.tick?.(timeUs);
  }

  private examine(bytes: Buffer, start: number, end: number, timeUs: number, firstUs: number): void {
    let position = start;
    while (position < end) {
      const begins = this.reader === undefined || this.reader.heldBytes === 0;
      if (begins && !mayBeginHeader(bytes[position]!)) break;
      this.reader ??= new HeaderReader();
      const { reader } = this;
      if (begins) this.heldFirstUs = firstUs;
      this.heldUs = timeUs;
      position = reader.consume(bytes, position, end);
      if (reader.outcome === 'more') return;
      if (reader.outcome === 'done') {
        this.headerDone();
        if (this.passing) break;
      } else if (reader.outcome === 'none' || this.begun) {
        this.passHeld();
        break;
      } else {
        this.abandoned = true;
        count(this.context.counters.connections.unrecognised, reader.outcome);
        this.context.mute();
        return;
      }
    }
    if (position === end && this.reader?.heldBytes === 0) return; // another header may follow
    this.giveWay();
    if (position < end) this.next.data(FROM_CLIENT, bytes, position, end, timeUs, firstUs);
  }

  private headerDone(): void {
    const reader = this.reader!;
    if (reader.client !== undefined) this.context.connection.relayedFor = reader.client;
    reader.begin();
    if (++this.headers >= this.context.limits.proxyHeaders) this.giveWay();
  }

  /** What was held is no header: it is the next layer's. */
  private passHeld(): void {
    const { reader } = this;
    if (reader === undefined || reader.heldBytes === 0) return;
    const { held, heldBytes } = reader;
    reader.heldBytes = 0;
    this.begun = true;
    this.next.data(FROM_CLIENT, held, 0, heldBytes, this.heldUs, this.heldFirstUs);
  }

  /** The ends of a connection that is older than the capture are a guess, and only a client sends a header. */
  private isFromClient(bytes: Buffer, start: number, end: number): boolean {
    if (this.context.connection.startSeen || this.begun || this.reader !== undefined) return false;
    return beginsWithHeader(bytes, start, end) && this.context.swapRoles?.() === true;
  }

  private giveWay(): void {
    if (this.passing) return;
    this.passing = true;
    this.reader = undefined;
    this.context.replaceLayer?.(this.next);
  }
}
