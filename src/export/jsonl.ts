import type { Exchange } from '../exchange/exchange.ts';
import type { Span } from '../span/span.ts';
import type { LineWriter } from './line-writer.ts';
import type { Output, OutputState } from './output.ts';
import { toLine } from './view-line.ts';
import type { Seen } from './views.ts';

/** Writes one JSON object per exchange that became spans (docs/reference/exchanges.md): what the console shows, for programs. */
export class JsonlOutput implements Output {
  private readonly writer: LineWriter;

  constructor(writer: LineWriter) {
    this.writer = writer;
  }

  exchange(_exchange: Exchange, spans: readonly Span[], seen: Seen): void {
    if (spans.length === 0) return;
    this.writer.write(`${toLine(seen.view)}\n`, spans.length);
  }

  ready(): Promise<void> | undefined {
    return this.writer.ready();
  }

  get heldBytes(): number {
    return this.writer.heldBytes;
  }

  state(): OutputState {
    return this.writer.state();
  }

  shutdown(deadlineMs: number): Promise<void> {
    return this.writer.end(deadlineMs);
  }
}
