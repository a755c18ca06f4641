import type { Output } from './output.ts';

/** Spans are made and counted, and go nowhere. */
export class NoOutput implements Output {
  readonly heldBytes = 0;

  exchange(): void {}

  ready(): undefined {
    return undefined;
  }

  state(): undefined {
    return undefined;
  }

  shutdown(): Promise<void> {
    return Promise.resolve();
  }
}
