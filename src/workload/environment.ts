import { readEnvironment } from '../files/environ.ts';
import type { Tally } from '../files/read.ts';

/** What OpenTelemetry's variables in a process's environment say about it. */
export interface ServiceEnvironment {
  /** OTEL_SERVICE_NAME, else service.name of OTEL_RESOURCE_ATTRIBUTES. */
  readonly serviceName: string | undefined;
  /** OTEL_RESOURCE_ATTRIBUTES without service.name. */
  readonly attributes: Readonly<Record<string, string>>;
}

export const emptyEnvironment: ServiceEnvironment = { serviceName: undefined, attributes: {} };

const MAX_ATTRIBUTES = 128;
const MAX_VALUE_CHARACTERS = 4096;

const SERVICE_NAME = 'OTEL_SERVICE_NAME';
const RESOURCE_ATTRIBUTES = 'OTEL_RESOURCE_ATTRIBUTES';

/**
 * Takes the two variables that describe the service; nothing else of the environment, which holds secrets, is decoded or kept.
 *
 * @param path /proc/PID/environ
 */
export function serviceEnvironmentOf(path: string, tally: Tally): ServiceEnvironment {
  const values = readEnvironment(path, [SERVICE_NAME, RESOURCE_ATTRIBUTES], tally);
  return values === undefined ? emptyEnvironment : serviceOf(values);
}

/** @param values by name */
export function serviceOf(values: ReadonlyMap<string, string>): ServiceEnvironment {
  const attributes = parseResourceAttributes(values.get(RESOURCE_ATTRIBUTES) ?? '');
  const { 'service.name': listedName, ...others } = attributes;
  return { serviceName: nonEmpty(values.get(SERVICE_NAME)) ?? nonEmpty(listedName), attributes: others };
}

/**
 * Resource SDK specification, "Specifying resource information via an environment variable": `key=value` pairs with commas
 * between them, percent-encoded; on any error the whole value is discarded.
 */
export function parseResourceAttributes(list: string): Record<string, string> {
  const attributes: Record<string, string> = {};
  let n = 0;
  for (const pair of list.split(',')) {
    if (pair.trim() === '') continue;
    const equals = pair.indexOf('=');
    if (equals < 0 || ++n > MAX_ATTRIBUTES) return {};
    try {
      const key = decodeURIComponent(pair.slice(0, equals).trim());
      const value = decodeURIComponent(pair.slice(equals + 1).trim());
      if (key === '' || value.length > MAX_VALUE_CHARACTERS) return {};
      attributes[key] = value;
    } catch {
      return {};
    }
  }
  return attributes;
}

function nonEmpty(text: string | undefined): string | undefined {
  const trimmed = text?.trim();
  return trimmed === undefined || trimmed === '' ? undefined : trimmed.slice(0, MAX_VALUE_CHARACTERS);
}
