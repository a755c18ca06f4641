import type { Answer } from '../telemetry/answer.ts';
import type { Request } from './request.ts';
import type { Stream } from './stream.ts';

/** An answer that goes on until one side ends it. */
export interface StreamAnswer {
  readonly contentType: string;
  /** Called once the head is sent. */
  start(stream: Stream): void;
}

/** What the service answers to GET and HEAD of one path. Each kind has a budget of its own: what others use up is never a probe's. */
export type Route = {
  readonly path: string;
  /** Query parameters that it takes; a request with others is refused. Undefined: all are passed over. */
  readonly parameters?: readonly string[];
} & (
  | {
      /** `probe`: cheap, and always answered. `costly`: made a few times a second, else the last answer is repeated. */
      readonly kind: 'probe' | 'costly';
      answer(request: Request): Answer;
    }
  | {
      /** Shows traffic: access is checked (access.ts). */
      readonly kind: 'traffic';
      answer(request: Request): Answer | StreamAnswer;
    }
);

export function isStream(answer: Answer | StreamAnswer): answer is StreamAnswer {
  return 'start' in answer;
}
