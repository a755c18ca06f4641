import type { Sampler } from '@opentelemetry/sdk-trace-node';

/** Which spans are made. The samplers themselves are in samplers.ts, which loads OpenTelemetry's SDK: most agents sample nothing. */
export interface Sampling {
  /** A decision that came on the wire is followed. */
  readonly followParent: boolean;
  /** Decides the rest; undefined: all are made. */
  readonly root: Sampler | undefined;
}

export const sampleAll: Sampling = { followParent: true, root: undefined };
