/** Converts the time of events to wall time. */
export interface Clock {
  /** @returns microseconds since the Unix epoch, with a fraction */
  unixUs(timeUs: number): number;
}

/** For replay: the events already carry Unix time. */
export const identityClock: Clock = { unixUs: (timeUs) => timeUs };
