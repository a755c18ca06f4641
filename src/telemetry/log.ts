/**
 * The agent's own messages: leveled lines on standard error. A message that keeps coming is written a few times per interval and
 * then counted. Callers never pass payload or secrets; names of processes and files may be hostile, so control characters are
 * escaped here.
 */
export type LogLevel = 'error' | 'warn' | 'info' | 'debug';
export type LogFields = Readonly<Record<string, string | number | boolean | undefined>>;

export interface LogOptions {
  readonly level: LogLevel;
  readonly format: 'text' | 'json';
  /** Takes one line, its line feed included. Default: standard error. */
  readonly write?: (line: string) => void;
  /** Milliseconds since the Unix epoch. */
  readonly now?: () => number;
}

const severity: Readonly<Record<LogLevel, number>> = { error: 0, warn: 1, info: 2, debug: 3 };

const REPETITION_INTERVAL_MS = 10_000;
const LINES_PER_INTERVAL = 5;
const MAX_MESSAGES_TRACKED = 256;

interface Repetition {
  readonly level: LogLevel;
  intervalStartMs: number;
  lines: number;
  suppressed: number;
}

export class Log {
  readonly #severity: number;
  readonly #json: boolean;
  readonly #write: (line: string) => void;
  readonly #now: () => number;
  readonly #repetitions = new Map<string, Repetition>();

  constructor(options: LogOptions) {
    this.#severity = severity[options.level];
    this.#json = options.format === 'json';
    this.#write = options.write ?? writeToStandardError;
    this.#now = options.now ?? Date.now;
  }

  /** @param message the same text for the same event: what varies belongs in `fields`, since repetition is counted by message */
  error(message: string, fields?: LogFields): void {
    this.#log('error', message, fields);
  }

  warn(message: string, fields?: LogFields): void {
    this.#log('warn', message, fields);
  }

  info(message: string, fields?: LogFields): void {
    this.#log('info', message, fields);
  }

  debug(message: string, fields?: LogFields): void {
    this.#log('debug', message, fields);
  }

  /** A line that others wait for, such as `ready ...`: written as it is, whatever the level and the format. */
  plain(line: string): void {
    this.#write(`${printable(line)}\n`);
  }

  /** Says how often messages came that keep coming no more. Call now and then. */
  settle(): void {
    const nowMs = this.#now();
    for (const [message, repetition] of this.#repetitions) {
      if (Math.abs(nowMs - repetition.intervalStartMs) < REPETITION_INTERVAL_MS) continue;
      this.#closeInterval(message, repetition);
      this.#repetitions.delete(message);
    }
  }

  /** Says how often suppressed messages came. Call at the end. */
  flush(): void {
    for (const [message, repetition] of this.#repetitions) this.#closeInterval(message, repetition);
    this.#repetitions.clear();
  }

  #log(level: LogLevel, message: string, fields: LogFields | undefined): void {
    if (severity[level] > this.#severity || !this.#admit(level, message)) return;
    this.#line(level, message, fields);
  }

  #admit(level: LogLevel, message: string): boolean {
    const nowMs = this.#now();
    let repetition = this.#repetitions.get(message);
    if (repetition === undefined) {
      this.#makeRoom();
      repetition = { level, intervalStartMs: nowMs, lines: 0, suppressed: 0 };
      this.#repetitions.set(message, repetition);
    } else if (Math.abs(nowMs - repetition.intervalStartMs) >= REPETITION_INTERVAL_MS) {
      this.#closeInterval(message, repetition);
      repetition.intervalStartMs = nowMs;
      repetition.lines = 0;
      repetition.suppressed = 0;
    }
    if (repetition.lines >= LINES_PER_INTERVAL) {
      repetition.suppressed++;
      return false;
    }
    repetition.lines++;
    return true;
  }

  #makeRoom(): void {
    if (this.#repetitions.size < MAX_MESSAGES_TRACKED) return;
    for (const [message, repetition] of this.#repetitions) {
      this.#closeInterval(message, repetition);
      this.#repetitions.delete(message);
      return;
    }
  }

  #closeInterval(message: string, repetition: Repetition): void {
    if (repetition.suppressed > 0) this.#line(repetition.level, message, { repeated: repetition.suppressed });
  }

  #line(level: LogLevel, message: string, fields: LogFields | undefined): void {
    const time = new Date(this.#now()).toISOString();
    this.#write(this.#json ? jsonLine(time, level, message, fields) : textLine(time, level, message, fields));
  }
}

function jsonLine(time: string, level: LogLevel, message: string, fields: LogFields | undefined): string {
  // They come first, and no field takes their place.
  const own = { time, level, message };
  return `${printable(JSON.stringify({ ...own, ...fields, ...own }))}\n`;
}

function textLine(time: string, level: LogLevel, message: string, fields: LogFields | undefined): string {
  let line = `${time} ${level.padEnd(5)} ${message}`;
  for (const [name, value] of Object.entries(fields ?? {})) {
    if (value === undefined) continue;
    const text = String(value);
    line += ` ${name}=${/^[\w./:@+-]+$/.test(text) ? text : JSON.stringify(text)}`;
  }
  return `${printable(line)}\n`;
}

/** Control characters, and those that turn the direction of text, as escapes: a terminal must not obey a process's name. */
function printable(text: string): string {
  return text.replace(
    /[\p{Cc}\u2028\u2029\u202a-\u202e\u2066-\u2069]/gu,
    (character) => `\\u${character.charCodeAt(0).toString(16).padStart(4, '0')}`,
  );
}

/** Who reads standard error may go away; that must not end the agent. */
let standardErrorGuarded = false;
function writeToStandardError(line: string): void {
  if (!standardErrorGuarded) {
    standardErrorGuarded = true;
    process.stderr.on('error', () => {});
  }
  process.stderr.write(line);
}
