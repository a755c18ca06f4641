import { createHash } from 'node:crypto';
import type { AttributeValue, Resource } from '../span/resource.ts';
import type { Host } from './host.ts';
import type { ContainerIdentity } from './pods.ts';
import type { ProcessFacts } from './proc.ts';
import { baseName } from './program-name.ts';

/** The name for a process of which nothing is known, as the Resource conventions want it. */
const UNKNOWN_SERVICE = 'unknown_service';

/** Of one container. */
const MAX_RESOURCES = 256;

/** The namespace that the conventions of service.instance.id give for version 5 UUIDs. */
const INSTANCE_NAMESPACE = Buffer.from('4d63009a8d0f11eeaad74c796ed8e320', 'hex');

/**
 * The resource of a process's spans. service.name: what its environment says, else its systemd unit, else the program's name.
 * Attributes of its OTEL_RESOURCE_ATTRIBUTES go before what was found out, but not before what was measured (process.*).
 *
 * @param agentVersion telemetry.distro.version
 */
export function resourceOfProcess(facts: ProcessFacts, host: Host, agentVersion: string): Resource {
  const name = facts.environment.serviceName ?? facts.cgroup.unit ?? (facts.program || UNKNOWN_SERVICE);
  const attributes: Record<string, AttributeValue> = {
    'service.name': name,
    'service.instance.id': instanceId(facts, host),
    'host.name': host.name,
    ...(host.id !== undefined && { 'host.id': host.id }),
    'os.type': 'linux',
    ...(facts.cgroup.containerId !== undefined && { 'container.id': facts.cgroup.containerId }),
    ...facts.environment.attributes,
    'process.pid': facts.pid,
    ...executableAttributes(facts),
    'telemetry.distro.name': 'wirespan',
    'telemetry.distro.version': agentVersion,
  };
  return { name, attributes };
}

/** Resources of what runs in pods: one for all processes of a container that run the same program and say the same of themselves. */
export class PodResources {
  readonly #host: Host;
  readonly #agentVersion: string;
  readonly #resources = new WeakMap<ContainerIdentity, Map<string, Resource>>();

  /** @param agentVersion telemetry.distro.version */
  constructor(host: Host, agentVersion: string) {
    this.#host = host;
    this.#agentVersion = agentVersion;
  }

  resourceOf(facts: ProcessFacts, identity: ContainerIdentity): Resource {
    const { executable, program, environment } = facts;
    const key = JSON.stringify([executable || program, environment, facts.cgroup.pod?.containerId]);
    let resources = this.#resources.get(identity);
    if (resources === undefined) {
      resources = new Map();
      this.#resources.set(identity, resources);
    }
    let resource = resources.get(key);
    if (resource === undefined) {
      // Programs that are started under ever new names, or say ever new things: those that live keep theirs.
      if (resources.size >= MAX_RESOURCES) resources.clear();
      resource = this.#make(facts, identity);
      resources.set(key, resource);
    }
    return resource;
  }

  #make(facts: ProcessFacts, { service, measured }: ContainerIdentity): Resource {
    const { serviceName, attributes: given } = facts.environment;
    const containerId = facts.cgroup.pod?.containerId;
    const attributes: Record<string, AttributeValue> = {
      ...service,
      ...(this.#host.id !== undefined && { 'host.id': this.#host.id }),
      'os.type': 'linux',
      ...given,
      ...(serviceName !== undefined && { 'service.name': serviceName }),
      'host.name': this.#host.name,
      ...(containerId !== undefined && { 'container.id': containerId }),
      ...measured,
      ...executableAttributes(facts),
      'telemetry.distro.name': 'wirespan',
      'telemetry.distro.version': this.#agentVersion,
    };
    return { name: String(attributes['service.name'] ?? UNKNOWN_SERVICE), attributes };
  }
}

function executableAttributes(facts: ProcessFacts): Record<string, AttributeValue> {
  if (facts.executable !== '') {
    return { 'process.executable.name': baseName(facts.executable), 'process.executable.path': facts.executable };
  }
  return facts.program === '' ? {} : { 'process.executable.name': facts.program };
}

/** The same for every span of a process, another for every other process on any machine: a version 5 UUID (RFC 9562, 5.5). */
function instanceId(facts: ProcessFacts, host: Host): string {
  const hash = createHash('sha1')
    .update(INSTANCE_NAMESPACE)
    .update(`${host.id ?? host.name}/${facts.pid}/${facts.startNs}`)
    .digest();
  hash[6] = (hash[6]! & 0x0f) | 0x50;
  hash[8] = (hash[8]! & 0x3f) | 0x80;
  const hex = hash.toString('hex', 0, 16);
  return [hex.slice(0, 8), hex.slice(8, 12), hex.slice(12, 16), hex.slice(16, 20), hex.slice(20)].join('-');
}
