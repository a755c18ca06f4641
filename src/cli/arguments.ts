import { type ParseArgsOptionsConfig, parseArgs } from 'node:util';
import { parseListenAddress } from '../config/listen.ts';
import { isOutput, outputConflict, outputForms } from '../config/outputs.ts';
import { suggest } from '../config/suggest.ts';

export const commands = ['agent', 'replay', 'doctor'] as const;
export type CommandName = (typeof commands)[number];

/** Wrong usage: what was expected. The caller adds which help to read. */
export class UsageError extends Error {
  override readonly name = 'UsageError';
  readonly command: CommandName | undefined;

  constructor(message: string, command?: CommandName) {
    super(message);
    this.command = command;
  }
}

/** What the options of agent and replay said, as written. */
export interface PipelineArguments {
  readonly outputs: readonly string[];
  readonly config: string | undefined;
  readonly keylog: string | undefined;
  readonly stats: string | undefined;
  readonly pcapng: string | undefined;
  readonly cgroup: string | undefined;
  readonly listen: string | undefined;
  readonly perspective: 'client' | 'server' | 'both' | undefined;
  readonly logLevel: LogLevelName | undefined;
  readonly logFormat: 'auto' | 'text' | 'json' | undefined;
}

export type Invocation =
  | { readonly kind: 'help'; readonly command: CommandName | undefined; readonly asked: boolean }
  | { readonly kind: 'version' }
  | { readonly kind: 'agent'; readonly options: PipelineArguments }
  | { readonly kind: 'replay'; readonly options: PipelineArguments; readonly files: readonly string[] }
  | { readonly kind: 'doctor'; readonly json: boolean };

const logLevelNames = ['error', 'warn', 'info', 'debug'] as const;
type LogLevelName = (typeof logLevelNames)[number];
const perspectives = ['client', 'server', 'both'] as const;
const logFormatNames = ['auto', 'text', 'json'] as const;

const helpOption = { help: { type: 'boolean', short: 'h' } } as const;
const pipelineOptions = {
  ...helpOption,
  output: { type: 'string', short: 'o', multiple: true },
  config: { type: 'string', short: 'c' },
  keylog: { type: 'string' },
  stats: { type: 'string' },
  pcapng: { type: 'string' },
  perspective: { type: 'string' },
  'log-level': { type: 'string' },
  'log-format': { type: 'string' },
} as const;

const optionsOf = {
  agent: { ...pipelineOptions, cgroup: { type: 'string' }, listen: { type: 'string' } },
  replay: pipelineOptions,
  doctor: { ...helpOption, json: { type: 'boolean' } },
} as const;

/**
 * @param words the command line after the program's name
 * @throws UsageError
 */
export function parseArguments(words: readonly string[]): Invocation {
  const [first, ...rest] = words;
  switch (first) {
    case undefined:
      return { kind: 'help', command: undefined, asked: false };
    case '--help':
    case '-h':
    case 'help':
      return { kind: 'help', command: rest.map(commandNamed)[0], asked: true };
    case '--version':
    case '-V':
    case 'version':
      return { kind: 'version' };
    default:
      return parseCommand(commandNamed(first), rest);
  }
}

function commandNamed(word: string): CommandName {
  const command = commands.find((name) => name === word);
  if (command !== undefined) return command;
  const kind = word.startsWith('-') ? 'option' : 'command';
  const meant = suggest(word, kind === 'option' ? ['--help', '--version'] : commands);
  const hint = meant === undefined ? '' : `; did you mean ${meant}?`;
  throw new UsageError(`unknown ${kind} ${quoted(word)}: expected ${commands.join(', ')}, --version or --help${hint}`);
}

function parseCommand(command: CommandName, words: readonly string[]): Invocation {
  // Help goes before every other complaint about the same line, but not when it is an option's value or stands behind `--`.
  const { tokens } = parseArgs({ args: [...words], options: optionsOf[command], strict: false, tokens: true });
  if (tokens.some((token) => token.kind === 'option' && token.name === 'help')) {
    return { kind: 'help', command, asked: true };
  }
  switch (command) {
    case 'agent': {
      const { values, positionals } = parseStrictly(command, words, optionsOf.agent);
      if (positionals[0] !== undefined) {
        throw new UsageError(`unexpected ${quoted(positionals[0])}: agent takes options only`, command);
      }
      return { kind: 'agent', options: checkPipeline(command, values) };
    }
    case 'replay': {
      const { values, positionals } = parseStrictly(command, words, optionsOf.replay);
      return { kind: 'replay', options: checkPipeline(command, values), files: checkFiles(positionals) };
    }
    case 'doctor': {
      const { values, positionals } = parseStrictly(command, words, optionsOf.doctor);
      if (positionals[0] !== undefined) {
        throw new UsageError(`unexpected ${quoted(positionals[0])}: doctor takes options only`, command);
      }
      return { kind: 'doctor', json: values.json ?? false };
    }
  }
}

function parseStrictly<const Options extends ParseArgsOptionsConfig>(
  command: CommandName,
  words: readonly string[],
  options: Options,
) {
  try {
    return parseArgs({ args: [...words], options, strict: true, allowPositionals: true });
  } catch (error) {
    throw new UsageError(describeParseError(error as NodeJS.ErrnoException, command, words), command);
  }
}

function describeParseError(error: NodeJS.ErrnoException, command: CommandName, words: readonly string[]): string {
  // Node's own message goes on to explain `--`; its first sentence is what concerns the user.
  const message = error.message.split(/\.\s|\n/)[0] ?? error.message;
  const valueless = /^Option '(?:-\w, )?(--[\w-]+)[^']*' argument /.exec(message)?.[1];
  if (valueless !== undefined) return `${valueless} expects a value`;
  if (error.code !== 'ERR_PARSE_ARGS_UNKNOWN_OPTION') return lowerFirst(message);
  const options = optionsOf[command];
  const { tokens } = parseArgs({ args: [...words], options, strict: false, tokens: true });
  const unknown = tokens.find((token) => token.kind === 'option' && !(token.name in options));
  if (unknown?.kind !== 'option') return lowerFirst(message);
  const others = commands.filter((name) => unknown.name in optionsOf[name]);
  if (others.length > 0) return `${unknown.rawName} is an option of ${others.join(' and ')}, not of ${command}`;
  const known = Object.keys(options).map((name) => `--${name}`);
  const meant = suggest(unknown.rawName, known);
  const hint = meant === undefined ? `expected one of ${known.join(', ')}` : `did you mean ${meant}?`;
  return `unknown option ${quoted(unknown.rawName)}; ${hint}`;
}

type PipelineValues = {
  readonly [Name in Exclude<keyof typeof optionsOf.agent, 'help' | 'output'>]?: string | undefined;
} & { readonly output?: readonly string[] | undefined };

function checkPipeline(command: CommandName, values: PipelineValues): PipelineArguments {
  for (const [name, value] of Object.entries(values)) {
    if (value === '') throw new UsageError(`--${name} expects a value, found an empty one`, command);
  }
  return {
    outputs: checkOutputs(command, values.output ?? []),
    config: values.config,
    keylog: values.keylog,
    stats: values.stats,
    pcapng: values.pcapng,
    cgroup: values.cgroup,
    listen: checkListen(command, values.listen),
    perspective: oneOf(command, '--perspective', values.perspective, perspectives),
    logLevel: oneOf(command, '--log-level', values['log-level'], logLevelNames),
    logFormat: oneOf(command, '--log-format', values['log-format'], logFormatNames),
  };
}

function checkOutputs(command: CommandName, outputs: readonly string[]): readonly string[] {
  for (const output of outputs) {
    if (isOutput(output)) continue;
    const meant = suggest(output, outputForms);
    const hint = meant === undefined ? '' : `; did you mean ${meant}?`;
    throw new UsageError(`--output expects one of ${outputForms.join(', ')}, found ${quoted(output)}${hint}`, command);
  }
  const distinct = [...new Set(outputs)];
  const conflict = outputConflict(distinct);
  if (conflict !== undefined) throw new UsageError(`--output: ${conflict}`, command);
  return distinct;
}

function checkListen(command: CommandName, text: string | undefined): string | undefined {
  if (text === undefined || parseListenAddress(text) !== undefined) return text;
  throw new UsageError(`--listen expects HOST:PORT, such as 127.0.0.1:9464 or :9464, found ${quoted(text)}`, command);
}

function checkFiles(files: readonly string[]): readonly string[] {
  if (files.length === 0)
    throw new UsageError('expected at least one pcap or pcapng file, or - for standard input', 'replay');
  if (files.includes('')) throw new UsageError('expected a file, found an empty name', 'replay');
  if (files.filter((file) => file === '-').length > 1)
    throw new UsageError('- (standard input) can be read only once', 'replay');
  return files;
}

function oneOf<Word extends string>(
  command: CommandName,
  option: string,
  value: string | undefined,
  words: readonly Word[],
): Word | undefined {
  if (value === undefined) return undefined;
  const word = words.find((candidate) => candidate === value);
  if (word === undefined)
    throw new UsageError(`${option} expects ${words.join(', ')}, found ${quoted(value)}`, command);
  return word;
}

function quoted(word: string): string {
  return JSON.stringify(word);
}

function lowerFirst(text: string): string {
  return text.charAt(0).toLowerCase() + text.slice(1);
}
