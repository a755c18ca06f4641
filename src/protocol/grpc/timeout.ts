/** Microseconds per TimeoutUnit (doc/PROTOCOL-HTTP2.md, "Requests"). */
const UNITS: Readonly<Record<string, number>> = { H: 3.6e9, M: 6e7, S: 1e6, m: 1000, u: 1, n: 0.001 };

/** Clients round the time up as they write it, by less than 2 %, and send the header list a little later than they computed it. */
const ROUNDING = 0.02;
const SENDING_US = 2000;

/** @returns microseconds of grpc-timeout; 0 for what is none */
export function parseTimeout(text: string): number {
  const match = /^(\d{1,8})([HMSmun])$/.exec(text);
  return match === null ? 0 : Number(match[1]) * UNITS[match[2]!]!;
}

/** Whether a call that was cancelled after this time was cancelled because its deadline had come. */
export function deadlineExceeded(elapsedUs: number, timeoutUs: number): boolean {
  return timeoutUs > 0 && elapsedUs >= timeoutUs * (1 - ROUNDING) - SENDING_US;
}
