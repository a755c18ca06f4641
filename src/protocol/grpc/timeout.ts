/** Microseconds per TimeoutUnit (doc/PROTOCOL-HTTP2.md, "Requests"). */
const UNITS: Readonly<Record<string, number>> = { H: 3.6e9, M: 6e7, S: 1e6, m: 1000, u: 1, n: 0.001 };

/**
 * The deadline was set before grpc-timeout was sent. Clients round what is left up, by less than 2 %, and a busy one sends its header list
 * some milliseconds after it has computed it [grpc-js, 100 calls at once: 9 ms]. A cancellation that close to the deadline is one by chance.
 */
const ROUNDING = 0.02;
const SENDING = 0.1;
const MAX_SENDING_US = 50_000;
const TIMER_US = 1000;

/** @returns microseconds of grpc-timeout; 0 for what is none */
export function parseTimeout(text: string): number {
  const match = /^(\d{1,8})([HMSmun])$/.exec(text);
  return match === null ? 0 : Number(match[1]) * UNITS[match[2]!]!;
}

/** Whether a call that was cancelled after this time was cancelled because its deadline had come. */
export function deadlineExceeded(elapsedUs: number, timeoutUs: number): boolean {
  const early = timeoutUs * ROUNDING + Math.min(timeoutUs * SENDING, MAX_SENDING_US) + TIMER_US;
  return timeoutUs > 0 && elapsedUs >= timeoutUs - early;
}
