/**
 * What is kept of the API's objects: a cluster has thousands of pods of ten kilobytes each, and every agent needs to know all of their
 * addresses. managedFields, most of spec and of status are dropped as soon as an object is parsed.
 *
 * The API server is trusted to send objects of the API's form; what is not, reads as absent.
 */

/** Any object of the API, as JSON. */
export type ApiObject = Readonly<Record<string, unknown>>;

const emptyObject: ApiObject = {};
const emptyList: readonly never[] = [];

export function objectAt(value: unknown, key: string): ApiObject {
  const inner = isObject(value) ? value[key] : undefined;
  return isObject(inner) ? inner : emptyObject;
}

export function listAt(value: unknown, key: string): readonly unknown[] {
  const inner = isObject(value) ? value[key] : undefined;
  return Array.isArray(inner) ? inner : emptyList;
}

/** @returns empty when there is none */
export function textAt(value: unknown, key: string): string {
  const inner = isObject(value) ? value[key] : undefined;
  return typeof inner === 'string' ? inner : '';
}

export function numberAt(value: unknown, key: string): number | undefined {
  const inner = isObject(value) ? value[key] : undefined;
  return typeof inner === 'number' && Number.isFinite(inner) ? inner : undefined;
}

function isObject(value: unknown): value is ApiObject {
  return typeof value === 'object' && value !== null && !Array.isArray(value);
}

/** Milliseconds since the Unix epoch of an RFC 3339 time, which the API cuts to whole seconds; `undefined` when there is none. */
export function timeAt(value: unknown, key: string): number | undefined {
  const time = Date.parse(textAt(value, key));
  return Number.isNaN(time) ? undefined : time;
}

/** Strings, of which a name that comes again is kept once: each of a parsed JSON text is a copy of its own. */
class Strings {
  readonly #known = new Map<string, string>();
  readonly #limit: number;

  constructor(limit: number) {
    this.#limit = limit;
  }

  of(text: string): string {
    const known = this.#known.get(text);
    if (known !== undefined) return known;
    // Those in use live on where they are used.
    if (this.#known.size >= this.#limit) this.#known.clear();
    this.#known.set(text, text);
    return text;
  }
}

const MAX_SHARED_STRINGS = 65_536;
/** Names of namespaces, nodes, owners, images: few, and in many objects. */
export const shared = new Strings(MAX_SHARED_STRINGS);

/**
 * An object of an informer. The library asks for `metadata` with these names; the record is its own, which saves an object for each of many
 * thousand.
 */
export abstract class ClusterObject {
  readonly namespace: string;
  readonly name: string;
  readonly resourceVersion: string;

  constructor(api: ApiObject) {
    const metadata = objectAt(api, 'metadata');
    this.namespace = shared.of(textAt(metadata, 'namespace'));
    this.name = textAt(metadata, 'name');
    this.resourceVersion = textAt(metadata, 'resourceVersion');
  }

  get metadata(): this {
    return this;
  }

  /** `namespace/name`. */
  get key(): string {
    return `${this.namespace}/${this.name}`;
  }
}

/** Who controls an object. */
export interface Owner {
  readonly apiVersion: string;
  readonly kind: string;
  readonly name: string;
  readonly uid: string;
}

/** @returns the controlling one of metadata.ownerReferences */
export function controllerOf(api: ApiObject): Owner | undefined {
  const references = listAt(objectAt(api, 'metadata'), 'ownerReferences');
  const controller = references.find((reference) => isObject(reference) && reference.controller === true);
  if (controller === undefined) return undefined;
  return {
    apiVersion: shared.of(textAt(controller, 'apiVersion')),
    kind: shared.of(textAt(controller, 'kind')),
    name: shared.of(textAt(controller, 'name')),
    uid: shared.of(textAt(controller, 'uid')),
  };
}

export class Service extends ClusterObject {
  /** Virtual addresses: clusterIPs, externalIPs, those of the load balancer. */
  readonly addresses: readonly string[];
  readonly nodePorts: readonly number[];

  constructor(api: ApiObject) {
    super(api);
    const spec = objectAt(api, 'spec');
    const balancer = listAt(objectAt(objectAt(api, 'status'), 'loadBalancer'), 'ingress');
    this.addresses = [
      ...texts(listAt(spec, 'clusterIPs')).filter((address) => address !== 'None'),
      ...texts(listAt(spec, 'externalIPs')),
      ...balancer.map((each) => textAt(each, 'ip')).filter((address) => address !== ''),
    ];
    this.nodePorts = listAt(spec, 'ports').flatMap((port) => numberAt(port, 'nodePort') ?? []);
  }
}

/** More are not needed to tell whether all are pods of one workload, for one of them stands in thousands of slices. */
const MAX_ENDPOINT_PODS = 16;

export class EndpointSlice extends ClusterObject {
  /** Name of the Service, in this namespace. */
  readonly service: string;
  /** Names of pods behind it, in this namespace; some of many. */
  readonly pods: readonly string[];
  /** `address|port` of what is behind it and no pod: a machine, something outside of the cluster. */
  readonly others: readonly string[];

  constructor(api: ApiObject) {
    super(api);
    this.service = shared.of(textAt(objectAt(objectAt(api, 'metadata'), 'labels'), 'kubernetes.io/service-name'));
    const ports = listAt(api, 'ports').flatMap((port) => numberAt(port, 'port') ?? []);
    const pods: string[] = [];
    const others: string[] = [];
    for (const endpoint of listAt(api, 'endpoints')) {
      const target = objectAt(endpoint, 'targetRef');
      if (textAt(target, 'kind') === 'Pod') {
        if (pods.length < MAX_ENDPOINT_PODS) pods.push(textAt(target, 'name'));
        continue;
      }
      for (const address of texts(listAt(endpoint, 'addresses'))) {
        for (const port of ports) others.push(endpointKey(address, port));
      }
    }
    this.pods = pods;
    this.others = others.length === 0 ? emptyList : others;
  }
}

export function endpointKey(address: string, port: number): string {
  return `${address}|${port}`;
}

/** Of a node, what its agent and the others need: its addresses. */
export class ClusterNode extends ClusterObject {
  readonly addresses: readonly string[];

  constructor(api: ApiObject) {
    super(api);
    this.addresses = listAt(objectAt(api, 'status'), 'addresses')
      .filter((each) => ['InternalIP', 'ExternalIP'].includes(textAt(each, 'type')))
      .map((each) => textAt(each, 'address'));
  }
}

export function texts(list: readonly unknown[]): string[] {
  return list.filter((each): each is string => typeof each === 'string' && each !== '');
}
