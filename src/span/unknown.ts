import type { Resource } from './resource.ts';

/** More endpoints than this and all are forgotten: a resource is cheap to make again. */
const MAX_RESOURCES = 4096;

/** Resources for endpoints of connections that no process is known of. */
export class UnknownResources {
  /** By address, then port: no name is put together for a look-up. */
  private readonly resources = new Map<string, Map<number, Resource>>();
  private readonly names: 'address' | 'unknown_service';
  private size = 0;

  /** @param names whether service.name is the address, or `unknown_service` with the address in host.ip */
  constructor(names: 'address' | 'unknown_service') {
    this.names = names;
  }

  /** @param port 0 leaves it out */
  resourceOf(address: string, port: number): Resource {
    return this.resources.get(address)?.get(port) ?? this.add(address, port);
  }

  private add(address: string, port: number): Resource {
    if (this.size >= MAX_RESOURCES) {
      this.resources.clear();
      this.size = 0;
    }
    const name = port === 0 ? address : address.includes(':') ? `[${address}]:${port}` : `${address}:${port}`;
    const resource: Resource =
      this.names === 'address'
        ? { name, attributes: { 'service.name': name } }
        : { name, attributes: { 'service.name': 'unknown_service', 'host.ip': [address] } };
    let ports = this.resources.get(address);
    if (ports === undefined) {
      ports = new Map();
      this.resources.set(address, ports);
    }
    ports.set(port, resource);
    this.size++;
    return resource;
  }
}
