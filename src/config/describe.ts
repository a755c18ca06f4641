import { z } from 'zod';
import { configSchema } from './schema.ts';

/** The part of JSON Schema that the configuration's schema uses. */
export interface SchemaNode {
  readonly type?: 'object' | 'array' | 'string' | 'integer' | 'number' | 'boolean';
  readonly description?: string;
  readonly default?: unknown;
  readonly enum?: readonly string[];
  readonly minimum?: number;
  readonly maximum?: number;
  readonly properties?: Readonly<Record<string, SchemaNode>>;
  /** Of a mapping whose keys are free. */
  readonly additionalProperties?: SchemaNode | false;
  readonly items?: SchemaNode;
}

/** The configuration file's schema as data, for messages and for the reference. */
export const configTree = z.toJSONSchema(configSchema, { io: 'input' }) as SchemaNode;

/** @returns the schema of the value at `path`, or `undefined` when no value may stand there */
export function nodeAt(path: readonly PropertyKey[]): SchemaNode | undefined {
  let node: SchemaNode | undefined = configTree;
  for (const step of path) {
    if (typeof step === 'number') node = node?.items;
    else node = node?.properties?.[String(step)] ?? (node?.additionalProperties || undefined);
  }
  return node;
}

/** @returns what may stand there, in words: `a whole number from 1 to 1000` */
export function describeType(node: SchemaNode): string {
  if (node.enum !== undefined) return `one of ${node.enum.join(', ')}`;
  switch (node.type) {
    case 'object':
      return node.additionalProperties ? 'a mapping of names to texts' : 'a mapping of keys to values';
    case 'array':
      return `a list (each entry ${node.items === undefined ? 'a value' : describeType(node.items)})`;
    case 'number':
      return `a number ${describeRange(node)}`;
    case 'integer':
      return `a whole number ${describeRange(node)}`;
    case 'string':
      return 'a text';
    case 'boolean':
      return 'true or false';
    default:
      return 'a value';
  }
}

function describeRange(node: SchemaNode): string {
  const { minimum = Number.MIN_SAFE_INTEGER, maximum = Number.MAX_SAFE_INTEGER } = node;
  return maximum === Number.MAX_SAFE_INTEGER ? `of at least ${minimum}` : `from ${minimum} to ${maximum}`;
}
