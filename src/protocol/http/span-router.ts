/** Routes of paths: from patterns, and learned. */

import type { MappingOptions } from '../../span/mapping.ts';
import type { Resource } from '../../span/resource.ts';
import { RouteLearner } from '../../span/route-learner.ts';
import { PathPatterns } from '../../span/routes.ts';
import type { WithHttp } from './config.ts';

/** Finds the route of a path: that of the first pattern, else what was learned. */
export class Router {
  private readonly patterns: PathPatterns;
  private readonly learner: RouteLearner | undefined;

  constructor(patterns: readonly string[], learner: RouteLearner | undefined) {
    this.patterns = new PathPatterns(patterns);
    this.learner = learner;
  }

  /**
   * @param service whose path it is
   * @param statusCode what it was answered with
   * @returns empty when the path has no route
   */
  routeOf(path: string, service: Resource, statusCode: number): string {
    return this.patterns.match(path) || (this.learner?.routeOf(path, service, statusCode) ?? '');
  }
}

const routers = new WeakMap<MappingOptions<WithHttp>, Router>();

/** @returns the router of all mappings that are made of these options: what requests teach, WebSocket connections know */
export function sharedRouter(options: MappingOptions<WithHttp>): Router {
  let router = routers.get(options);
  if (router === undefined) {
    const { limits, counters, memory } = options;
    const { http } = options.config;
    const learner = http.learnRoutes ? new RouteLearner(limits, counters.services, memory) : undefined;
    router = new Router(http.routes, learner);
    routers.set(options, router);
  }
  return router;
}
