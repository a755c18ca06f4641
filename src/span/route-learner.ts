import { type Account, type Holder, type MemoryBudget, unlimitedMemory } from '../memory/budget.ts';
import { count, type ReasonCounts } from '../telemetry/counters.ts';
import type { Resource } from './resource.ts';

export interface RouteLearnerLimits {
  /** Services that are learned about. */
  readonly learnedServices: number;
  /** Segments that are remembered of one service. */
  readonly learnedSegments: number;
  /** Different segments at one place of a path; with more the place is a parameter. */
  readonly learnedSegmentsPerPlace: number;
}

const PARAMETER = '{id}';
const REST = '*';
/** A path has no more segments in its route. */
const MAX_DEPTH = 16;
const MAX_SEGMENT_CHARACTERS = 64;
/** A segment that is in one of so many requests keeps its name when its place becomes a parameter: `/users/me`. */
const COMMON = 8;

/** An identifier wherever it stands: digits alone or five in a row, hexadecimal digits, a UUID, an address of mail, a token. */
const IDENTIFIER =
  /^\d+$|\d{5}|^(?=.*\d)[\da-f]{8,}$|^[\da-f]{16,}$|^[\da-f]{8}-[\da-f]{4}-[\da-f]{4}-[\da-f]{4}-[\da-f]{12}$|@|%40|(?=[a-z]*\d)[a-z\d]{20}/i;

/** A place with its segment, in the tables of those before it and behind it. */
const PLACE_COST = 400;

class Place {
  requests = 0;
  /** Has given up to tell segments apart, but for those that are left in `segments`. */
  isParameter = false;
  segments: Map<string, Place> | undefined = undefined;
  /** What follows an identifier. */
  parameter: Place | undefined = undefined;
}

class Service {
  readonly root = new Place();
  segments = 0;
}

/**
 * Learns for each service which segments of its paths are names and which are values, so that a route such as `/users/{id}/orders` can be
 * said of paths that no pattern matches: a tree of segments, in which a place with many different ones becomes a parameter. Only what
 * was answered with a status below 400 teaches; guessed paths teach nothing. The same requests in the same order yield
 * the same routes.
 */
export class RouteLearner implements Holder {
  readonly kind = 'routes';
  private readonly limits: RouteLearnerLimits;
  private readonly counts: ReasonCounts;
  /** By namespace and name; and for resources that were seen, so that no name is put together again. */
  private readonly services = new Map<string, Service>();
  private known = new WeakMap<Resource, Service>();
  private readonly account: Account;

  /** @param counts `routes_services_limit`: requests of services that there was no room for; `routes_segments_limit`: whose path was not learned to its end */
  constructor(limits: RouteLearnerLimits, counts: ReasonCounts, memory: MemoryBudget = unlimitedMemory()) {
    this.limits = limits;
    this.account = memory.open(this);
    this.counts = counts;
  }

  /** @returns empty when nothing is known of such a path */
  routeOf(path: string, resource: Resource, statusCode: number): string {
    if (!path.startsWith('/')) return '';
    const service = this.known.get(resource) ?? this.serviceOf(resource);
    if (service === undefined) {
      count(this.counts, 'routes_services_limit');
      return '';
    }
    const learns = statusCode > 0 && statusCode < 400;
    const segments = path.split('/');
    let place = service.root;
    let route = '';
    for (let i = 1; i < segments.length; i++) {
      if (i > MAX_DEPTH) return `${route}/${REST}`;
      const segment = nameOf(segments[i]!);
      const isIdentifier = segment.length > MAX_SEGMENT_CHARACTERS || IDENTIFIER.test(segment);
      if (learns) place.requests++;
      let next = isIdentifier ? undefined : place.segments?.get(segment);
      if (next === undefined && !isIdentifier && !place.isParameter) {
        if (!learns) return '';
        if (service.segments >= this.limits.learnedSegments) {
          count(this.counts, 'routes_segments_limit');
          return `${route}/${REST}`;
        }
        next = this.add(service, place, segment);
      }
      if (next === undefined) {
        if (!learns && place.parameter === undefined) return '';
        place.parameter ??= new Place();
        next = place.parameter;
        route += `/${PARAMETER}`;
      } else {
        route += `/${segment}`;
      }
      place = next;
    }
    if (learns) place.requests++;
    return route;
  }

  /** Memory is full: what was learned is forgotten. */
  giveUp(): void {
    this.services.clear();
    this.known = new WeakMap();
    this.account.charge(-this.account.plain);
  }

  private forget(service: Service): void {
    service.segments--;
    this.account.charge(-PLACE_COST);
  }

  private serviceOf(resource: Resource): Service | undefined {
    const name = `${String(resource.attributes['service.namespace'] ?? '')}/${resource.name}`;
    let service = this.services.get(name);
    if (service === undefined) {
      if (this.services.size >= this.limits.learnedServices) return undefined;
      service = new Service();
      this.services.set(name, service);
    }
    this.known.set(resource, service);
    return service;
  }

  /** @returns what follows the new segment; undefined when it made its place a parameter */
  private add(service: Service, place: Place, segment: string): Place | undefined {
    place.segments ??= new Map();
    const next = new Place();
    // A copy: a part of a string keeps the whole of it, and a path may be long.
    place.segments.set(Buffer.from(segment).toString(), next);
    this.account.charge(PLACE_COST);
    service.segments++;
    if (place.segments.size <= this.limits.learnedSegmentsPerPlace) return next;
    this.makeParameter(service, place);
    return place.segments.get(segment);
  }

  private makeParameter(service: Service, place: Place): void {
    place.isParameter = true;
    place.parameter ??= new Place();
    // At least twice what all have on average, where there are few.
    const common = Math.max(place.requests / COMMON, (2 * place.requests) / place.segments!.size);
    for (const [segment, next] of place.segments!) {
      if (next.requests >= common) continue;
      place.segments!.delete(segment);
      this.forget(service);
      this.merge(service, next, place.parameter);
    }
  }

  private merge(service: Service, from: Place, to: Place): void {
    to.requests += from.requests;
    for (const [segment, next] of from.segments ?? []) {
      const same = to.segments?.get(segment);
      if (same !== undefined) {
        this.forget(service);
        this.merge(service, next, same);
      } else if (to.isParameter) {
        this.forget(service);
        to.parameter ??= new Place();
        this.merge(service, next, to.parameter);
      } else {
        to.segments ??= new Map();
        to.segments.set(segment, next);
        if (to.segments.size > this.limits.learnedSegmentsPerPlace) this.makeParameter(service, to);
      }
    }
    if (from.parameter === undefined) return;
    if (to.parameter === undefined) to.parameter = from.parameter;
    else this.merge(service, from.parameter, to.parameter);
  }
}

/** Without its parameters (RFC 3986 section 3.3), such as a session's id. */
function nameOf(segment: string): string {
  const semicolon = segment.indexOf(';');
  return semicolon < 0 ? segment : segment.slice(0, semicolon);
}
