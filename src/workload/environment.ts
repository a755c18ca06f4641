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

const NUL = 0;
const serviceNameKey = Buffer.from('OTEL_SERVICE_NAME=');
const resourceAttributesKey = Buffer.from('OTEL_RESOURCE_ATTRIBUTES=');

/**
 * Takes the two variables that describe the service; nothing else of the environment, which holds secrets, is decoded or copied.
 *
 * @param bytes /proc/PID/environ: `NAME=VALUE` entries, each ended by a NUL; bytes[0..length)
 */
export function parseEnvironment(bytes: Buffer, length: number): ServiceEnvironment {
  let serviceName: string | undefined;
  let attributes: Record<string, string> = {};
  for (let start = 0; start < length; ) {
    const nul = bytes.indexOf(NUL, start);
    const end = nul < 0 || nul > length ? length : nul;
    // As getenv(3), the first of two entries of one name counts.
    const name = entryValue(bytes, start, end, serviceNameKey);
    if (name !== undefined) serviceName ??= name;
    const list = entryValue(bytes, start, end, resourceAttributesKey);
    if (list !== undefined && Object.keys(attributes).length === 0) attributes = parseResourceAttributes(list);
    start = end + 1;
  }
  const { 'service.name': listedName, ...others } = attributes;
  return { serviceName: nonEmpty(serviceName) ?? nonEmpty(listedName), attributes: others };
}

function entryValue(bytes: Buffer, start: number, end: number, key: Buffer): string | undefined {
  const valueStart = start + key.length;
  if (end < valueStart || bytes.compare(key, 0, key.length, start, valueStart) !== 0) return undefined;
  return bytes.toString('utf8', valueStart, end);
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
