import type { Candidate } from './candidate.ts';
import type { Resource } from './resource.ts';
import { matchesRoute } from './routes.ts';

/** Conditions that all have to be met. Names may hold `*` for any characters. */
export interface FilterRule {
  /** service.namespace or k8s.namespace.name of the span's own endpoint. */
  readonly namespace?: string | undefined;
  /** service.name of the span's own endpoint. */
  readonly service?: string | undefined;
  /** As in the patterns of http.route; also of gRPC, whose paths are `/package.Service/Method`. */
  readonly path?: string | undefined;
  /** Of HTTP, `package.Service/Method` of gRPC, the operation of SQL. */
  readonly method?: string | undefined;
  /** db.namespace, or what stands before its `|`. */
  readonly database?: string | undefined;
  readonly minDurationUs?: number | undefined;
  readonly maxDurationUs?: number | undefined;
  readonly failed?: boolean | undefined;
}

/** `filters` of the configuration has these keys. */
export interface FilterOptions {
  readonly include: readonly FilterRule[];
  readonly exclude: readonly FilterRule[];
}

type Condition = (resource: Resource, candidate: Candidate) => boolean;

/** Which endpoints of which exchanges are wanted at all. */
export class Filters {
  private readonly include: readonly (readonly Condition[])[];
  private readonly exclude: readonly (readonly Condition[])[];

  private constructor(options: FilterOptions) {
    this.include = options.include.map(conditionsOf);
    this.exclude = options.exclude.map(conditionsOf);
  }

  /** @returns undefined when nothing is left out */
  static of(options: FilterOptions): Filters | undefined {
    return options.include.length + options.exclude.length === 0 ? undefined : new Filters(options);
  }

  leavesOut(resource: Resource, candidate: Candidate): boolean {
    const meets = (rule: readonly Condition[]): boolean => rule.every((condition) => condition(resource, candidate));
    return (this.include.length > 0 && !this.include.some(meets)) || this.exclude.some(meets);
  }
}

function conditionsOf(rule: FilterRule): Condition[] {
  const conditions: Condition[] = [];
  const { namespace, service, path, method, database, minDurationUs, maxDurationUs, failed } = rule;
  if (namespace !== undefined) {
    const isNamed = nameMatcher(namespace);
    conditions.push(
      ({ attributes }) =>
        isNamed(attributes['service.namespace']?.toString() ?? '') ||
        isNamed(attributes['k8s.namespace.name']?.toString() ?? ''),
    );
  }
  if (service !== undefined) {
    const isNamed = nameMatcher(service);
    conditions.push((resource) => isNamed(resource.name));
  }
  if (path !== undefined) {
    const segments = path.split('/');
    conditions.push((_, candidate) => candidate.path !== '' && matchesRoute(segments, candidate.path.split('/')));
  }
  if (method !== undefined) {
    const isNamed = nameMatcher(method);
    conditions.push((_, candidate) => isNamed(candidate.method));
  }
  if (database !== undefined) {
    const isNamed = nameMatcher(database);
    conditions.push(
      (_, candidate) =>
        candidate.database !== '' && (isNamed(candidate.database) || isNamed(candidate.database.split('|')[0]!)),
    );
  }
  if (minDurationUs !== undefined) conditions.push((_, candidate) => candidate.durationUs >= minDurationUs);
  if (maxDurationUs !== undefined) conditions.push((_, candidate) => candidate.durationUs <= maxDurationUs);
  if (failed !== undefined) conditions.push((_, candidate) => candidate.failed === failed);
  return conditions;
}

/**
 * The time is linear in the name's length, whatever the pattern: each piece between two `*` is looked for once.
 *
 * @param pattern `*` stands for any characters, also none
 */
export function nameMatcher(pattern: string): (name: string) => boolean {
  const [first, ...rest] = pattern.split('*');
  const last = rest.pop();
  if (last === undefined) return (name) => name === pattern;
  return (name) => {
    if (!name.startsWith(first!)) return false;
    let at = first!.length;
    for (const piece of rest) {
      const found = name.indexOf(piece, at);
      if (found < 0) return false;
      at = found + piece.length;
    }
    return name.length - last.length >= at && name.endsWith(last);
  };
}
