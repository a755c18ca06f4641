/** `no`: missing, and the agent cannot run. `limited`: missing, and less is seen. `info`: a fact. */
export type CheckState = 'ok' | 'no' | 'limited' | 'info';

/** One statement, checked on this machine just now. */
export interface Check {
  readonly group: string;
  readonly name: string;
  readonly state: CheckState;
  /** What was found; for what is missing, what that means. */
  readonly detail: string;
  /** What to do about it. */
  readonly remedy?: string;
}

export type ProcessState = 'probeable' | 'unsupported_library' | 'no_tls_library' | 'unreadable';

/** A process with what is known of its TLS library. */
export interface ProcessCheck {
  readonly pid: number;
  readonly name: string;
  /** `probeable`: the place where the agent puts its probe was found in the library. */
  readonly state: ProcessState;
  /** Path as the process sees it. */
  readonly library?: string;
  readonly version?: string;
  readonly detail: string;
}

export interface Report {
  readonly version: string;
  readonly checks: readonly Check[];
  readonly processes: readonly ProcessCheck[];
}

export function canRun(report: Report): boolean {
  return report.checks.every((check) => check.state !== 'no');
}

/** @returns the object of `doctor --json` */
export function toJson(report: Report): string {
  return `${JSON.stringify({ canRun: canRun(report), ...report })}\n`;
}

const marks: Readonly<Record<CheckState, string>> = { ok: 'ok', no: 'NO', limited: '--', info: '  ' };
const colours: Readonly<Record<CheckState, string>> = { ok: '32', no: '1;31', limited: '33', info: '0' };
const MAX_NAME_WIDTH = 28;

/** @param colour whether a terminal reads it */
export function toText(report: Report, colour: boolean): string {
  const paint = (text: string, state: CheckState) =>
    colour && text.trim() !== '' ? `\u001b[${colours[state]}m${text}\u001b[0m` : text;
  const width = columnWidth([
    ...report.checks.map((check) => check.name),
    ...alike(seen(report)).map((group) => processName(group[0]!, group.length - 1)),
  ]);
  const line = (state: CheckState, name: string, detail: string) =>
    `  ${paint(marks[state], state)}  ${printable(name).padEnd(width)}  ${printable(detail)}`.trimEnd();
  const lines = [`wirespan ${report.version}`];
  for (const group of new Set(report.checks.map((check) => check.group))) {
    lines.push('', group);
    for (const check of report.checks.filter((each) => each.group === group)) {
      // The rest of a long reason, such as the verifier's words, is for --json.
      lines.push(line(check.state, check.name, check.detail.split('\n')[0]!));
    }
  }
  lines.push('', 'Processes that use TLS', ...processLines(report, line));
  lines.push('', ...verdict(report, paint));
  return `${lines.join('\n')}\n`;
}

type Line = (state: CheckState, name: string, detail: string) => string;

/** The processes worth a line: those of which something can be said. */
function seen(report: Report): readonly ProcessCheck[] {
  return report.processes.filter(({ state }) => state !== 'no_tls_library' && state !== 'unreadable');
}

function processLines(report: Report, line: Line): string[] {
  const count = (state: ProcessState) => report.processes.filter((each) => each.state === state).length;
  const lines: string[] = [];
  for (const [first, ...others] of alike(seen(report))) {
    if (first === undefined) continue;
    const library = [first.version, first.library].filter((part) => part !== undefined).join(' in ');
    lines.push(
      line(
        first.state === 'probeable' ? 'ok' : 'limited',
        processName(first, others.length),
        `${library}: ${first.detail}`,
      ),
    );
  }
  if (count('no_tls_library') > 0) {
    lines.push(
      line('info', `${count('no_tls_library')} more`, 'no TLS library was recognised; their plain traffic is seen'),
    );
  }
  if (count('unreadable') > 0) lines.push(line('limited', `${count('unreadable')} more`, 'could not be looked into'));
  return lines;
}

/** Groups the processes of which the same is to be said. */
function alike(processes: readonly ProcessCheck[]): ProcessCheck[][] {
  return [...Map.groupBy(processes, ({ pid: _, ...said }) => JSON.stringify(said)).values()];
}

function processName(process: ProcessCheck, others: number): string {
  return `${process.name} (${others === 0 ? process.pid : `${others + 1} processes`})`;
}

function verdict(report: Report, paint: (text: string, state: CheckState) => string): string[] {
  const missing = report.checks.filter((check) => check.state === 'no');
  if (missing.length === 0) return [paint('The agent can run here.', 'ok')];
  const remedies = [...new Set(missing.map((check) => check.remedy).filter((remedy) => remedy !== undefined))];
  const names = missing.map((check) => check.name).join(', ');
  return [paint(`The agent cannot run here: ${names}.`, 'no'), ...remedies.map((remedy) => `  - ${remedy}`)];
}

function columnWidth(names: readonly string[]): number {
  return Math.min(MAX_NAME_WIDTH, Math.max(0, ...names.map((name) => name.length)));
}

/** Names and paths are other programs' words. */
function printable(text: string): string {
  return text.replace(/[\p{Cc}\u2028\u2029\u202a-\u202e\u2066-\u2069]/gu, '?');
}
