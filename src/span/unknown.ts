import type { Resource } from './resource.ts';

/** More ends than this and the oldest are forgotten: a resource is cheap to make again. */
const MAX_RESOURCES = 4096;

/** Resources for ends of connections that no process is known of. */
export class UnknownResources {
  private readonly resources = new Map<string, Resource>();
  private readonly names: 'address' | 'unknown_service';

  /** @param names whether service.name is the address, or `unknown_service` with the address in host.ip */
  constructor(names: 'address' | 'unknown_service') {
    this.names = names;
  }

  /** @param port 0 leaves it out */
  resourceOf(address: string, port: number): Resource {
    const name = port === 0 ? address : address.includes(':') ? `[${address}]:${port}` : `${address}:${port}`;
    let resource = this.resources.get(name);
    if (resource === undefined) {
      resource =
        this.names === 'address'
          ? { name, attributes: { 'service.name': name } }
          : { name, attributes: { 'service.name': 'unknown_service', 'host.ip': [address] } };
      if (this.resources.size >= MAX_RESOURCES) {
        for (const oldest of this.resources.keys()) {
          this.resources.delete(oldest);
          break;
        }
      }
      this.resources.set(name, resource);
    }
    return resource;
  }
}
