import { closeSync, openSync, readFileSync } from 'node:fs';
import { type Document, isMap, isNode, LineCounter, type Node, parseDocument } from 'yaml';
import type { z } from 'zod';
import { assertModuleLimits } from '../protocol/registry.ts';
import { snakeKey } from './case.ts';
import { describeType, nodeAt } from './describe.ts';
import { assertLimits } from './limits.ts';
import { type Config, type ConfigFile, configSchema, toConfig } from './schema.ts';
import { suggest } from './suggest.ts';
import { whyNot } from './system-error.ts';

const MAX_FILE_BYTES = 1024 * 1024;
const MAX_PROBLEMS = 20;
const MAX_SHOWN_CHARACTERS = 40;

/** What is wrong with a configuration: one line per problem, `FILE:LINE:COLUMN: ...`. */
export class ConfigError extends Error {
  override readonly name = 'ConfigError';
  readonly problems: readonly string[];

  constructor(problems: readonly string[]) {
    super(problems.join('\n'));
    this.problems = problems;
  }
}

/** Values that go before the file's, such as the command line's, in the file's names. */
export interface ConfigLayers {
  readonly below?: ConfigFile;
  readonly above?: ConfigFile;
}

/**
 * @param file path of a YAML file; `undefined`: none
 * @throws ConfigError when the file cannot be read or is not a valid configuration
 */
export function loadConfig(file: string | undefined, layers: ConfigLayers = {}): Config {
  return file === undefined
    ? parseConfig('', 'configuration', layers)
    : parseConfig(readConfigFile(file), file, layers);
}

/**
 * @param text YAML
 * @param file its name, for messages
 * @param layers values with which the file's are merged, section by section; they are trusted to be valid
 * @throws ConfigError with a line for every problem
 */
export function parseConfig(text: string, file: string, layers: ConfigLayers = {}): Config {
  const values = validated(text, file);
  const config = toConfig(configSchema.parse(merged(merged(layers.below ?? {}, values), layers.above ?? {})));
  try {
    assertLimits(config.limits);
    assertModuleLimits(config.limits);
  } catch (error) {
    throw new ConfigError([`${file}: ${snakeKey(String((error as Error).message))}`]);
  }
  return config;
}

function validated(text: string, file: string): ConfigFile {
  const lines = new LineCounter();
  const document = parseDocument(text, { lineCounter: lines, prettyErrors: false, logLevel: 'error' });
  const position = (offset: number): string => {
    const { line, col } = lines.linePos(offset);
    return `${file}:${line}:${col}`;
  };
  if (document.errors.length > 0) {
    throw problemsFound(document.errors.map((error) => `${position(error.pos[0])}: ${error.message}`));
  }
  const values = withoutEmptySections(toValues(document, file));
  const result = configSchema.safeParse(values);
  if (result.success) return values as ConfigFile;
  const problems = result.error.issues.flatMap((issue) => describeIssue(issue, document));
  problems.sort((a, b) => a.offset - b.offset);
  throw problemsFound(problems.map(({ offset, text }) => `${position(offset)}: ${text}`));
}

/** A section is merged key by key; a list is replaced as a whole. */
function merged(below: ConfigFile, above: ConfigFile): ConfigFile {
  const result: Record<string, unknown> = { ...below };
  for (const [name, value] of Object.entries(above)) {
    const under = result[name];
    result[name] = isSection(under) && isSection(value) ? { ...under, ...value } : value;
  }
  return result;
}

function isSection(value: unknown): value is Record<string, unknown> {
  return typeof value === 'object' && value !== null && !Array.isArray(value);
}

function readConfigFile(file: string): string {
  let descriptor: number;
  try {
    descriptor = openSync(file, 'r');
  } catch (error) {
    throw new ConfigError([`${file}: cannot be read: ${whyNot(error, 'read')}`]);
  }
  try {
    const bytes = readFileSync(descriptor);
    if (bytes.length > MAX_FILE_BYTES) throw new ConfigError([`${file}: is larger than ${MAX_FILE_BYTES} bytes`]);
    return new TextDecoder('utf-8', { fatal: true }).decode(bytes);
  } catch (error) {
    if (error instanceof ConfigError) throw error;
    if (error instanceof TypeError) throw new ConfigError([`${file}: is not UTF-8 text`]);
    throw new ConfigError([`${file}: cannot be read: ${whyNot(error, 'read')}`]);
  } finally {
    closeSync(descriptor);
  }
}

function toValues(document: Document, file: string): unknown {
  try {
    return document.toJS({ maxAliasCount: 100 }) ?? {};
  } catch (error) {
    // More aliases than allowed, or an alias without anchor.
    // The name stays unsaid: it may be a value that ought to stand in quotes.
    throw new ConfigError([`${file}: ${(error as Error).message.split(':')[0]}`]);
  }
}

/** A section all of whose keys are commented out is null in YAML: as if it were not there. */
function withoutEmptySections(values: unknown): unknown {
  if (values === null || typeof values !== 'object' || Array.isArray(values)) return values;
  return Object.fromEntries(Object.entries(values).filter(([, value]) => value !== null));
}

function problemsFound(problems: readonly string[]): ConfigError {
  const left = problems.length - MAX_PROBLEMS;
  return new ConfigError(left > 0 ? [...problems.slice(0, MAX_PROBLEMS), `... and ${left} more problems`] : problems);
}

interface Problem {
  /** Where in the file's text. */
  readonly offset: number;
  readonly text: string;
}

function describeIssue(issue: z.core.$ZodIssue, document: Document): Problem[] {
  if (issue.code === 'unrecognized_keys') {
    return issue.keys.map((key) => unknownKey(key, issue.path, document));
  }
  const node = nodeOf(document, issue.path);
  const name = dotted(issue.path);
  const expected = nodeAt(issue.path);
  if (issue.code === 'invalid_key')
    return issue.issues.flatMap((inner) => describeIssue({ ...inner, path: issue.path }, document));
  const custom = issue.message.startsWith('expected') || issue.code === 'custom';
  const rule = custom || expected === undefined ? issue.message : `expected ${describeType(expected)}`;
  // Values of header fields are secrets.
  const found = issue.path.includes('headers') && !isMap(node) ? 'a value that is not shown' : shown(node);
  const text = `${name === '' ? 'the file' : name}: ${rule}, found ${found}`;
  return [{ offset: offsetOf(issue.path, document), text }];
}

/** Where a value stands; where its section does when it is missing. */
function offsetOf(path: readonly PropertyKey[], document: Document): number {
  const offset = nodeOf(document, path)?.range?.[0];
  if (offset !== undefined || path.length === 0) return offset ?? 0;
  return offsetOf(path.slice(0, -1), document);
}

function unknownKey(key: string, path: readonly PropertyKey[], document: Document): Problem {
  const mapping = path.length === 0 ? document.contents : nodeOf(document, path);
  const pair = isMap(mapping) ? mapping.items.find((item) => isNode(item.key) && String(item.key) === key) : undefined;
  const offset = isNode(pair?.key) ? (pair.key.range?.[0] ?? 0) : 0;
  const known = Object.keys(nodeAt(path)?.properties ?? {});
  const meant = suggest(key, known);
  const where = path.length === 0 ? '' : ` in ${dotted(path)}`;
  const hint = meant === undefined ? `expected one of ${known.join(', ')}` : `did you mean "${meant}"?`;
  return { offset, text: `unknown key "${shorten(key)}"${where}; ${hint}` };
}

function nodeOf(document: Document, path: readonly PropertyKey[]): Node | undefined {
  const node = path.length === 0 ? document.contents : document.getIn(path, true);
  return isNode(node) ? node : undefined;
}

function dotted(path: readonly PropertyKey[]): string {
  return path
    .map((step) => (typeof step === 'number' ? `[${step}]` : `.${String(step)}`))
    .join('')
    .replace(/^\./, '');
}

function shown(node: Node | undefined): string {
  if (node === undefined) return 'nothing';
  const value: unknown = node.toJSON();
  if (value === null) return 'nothing';
  if (Array.isArray(value)) return 'a list';
  if (typeof value === 'object') return 'a mapping';
  return shorten(JSON.stringify(value) ?? String(value));
}

function shorten(text: string): string {
  return text.length <= MAX_SHOWN_CHARACTERS ? text : `${text.slice(0, MAX_SHOWN_CHARACTERS)}...`;
}
