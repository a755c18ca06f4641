/**
 * What the program knows of one protocol. A protocol is a folder below src/protocol/ whose `module.ts` exports one of these, a line in
 * `modules.ts`, and a page of documentation. All that lists protocols is made from that list.
 */
import type { ConfigSections, ConfigValues, LimitDefinitions, LimitValues, ReasonTable } from '../config/define.ts';
import type { Limits } from '../config/limits.ts';
import type { ExchangeBase } from '../exchange/exchange.ts';
import type { Viewer } from '../export/view.ts';
import type { MemoryBudget } from '../memory/budget.ts';
import type { MappedModule, MappingOptions, SpanMapping } from '../span/mapping.ts';
import type { Counters } from '../telemetry/counters.ts';
import type { UpgradeLayer } from './http1/dialogue.ts';
import type { StreamProtocol } from './http2/observer.ts';
import type { Protocol } from './layer.ts';

/** What a module gets to make its protocols of. */
export interface ModuleParts<
  Sections extends ConfigSections = ConfigSections,
  Definitions extends LimitDefinitions = LimitDefinitions,
> {
  /** The module's own sections of the configuration. */
  readonly config: ConfigValues<Sections>;
  /** The core's limits and the module's own. Each layer finds them in its context, too. */
  readonly limits: Limits & LimitValues<Definitions>;
  readonly counters: Counters;
  /** For a cache that serves all connections. */
  readonly memory: MemoryBudget | undefined;
}

/** What a protocol adds to HTTP. */
export interface HttpExtension {
  /** Looks into the bodies of HTTP/1 requests and responses. */
  readonly bodies?: readonly StreamProtocol[];
  /** Looks into streams of HTTP/2. */
  readonly streams?: readonly StreamProtocol[];
  /** Reads what follows an upgrade, by the token in the Upgrade field, in lower case. */
  readonly upgrades?: Readonly<Record<string, UpgradeLayer>>;
}

/** What a module adds to the stages before the exchange. */
export interface ModuleProtocols {
  /** Protocols that are recognised in the first bytes of a connection. @param http what all modules add to HTTP */
  connections?(http: Required<HttpExtension>): readonly Protocol[];
  readonly http?: HttpExtension;
}

export interface ProtocolModule<
  Sections extends ConfigSections = ConfigSections,
  Definitions extends LimitDefinitions = LimitDefinitions,
  Exchange extends ExchangeBase = ExchangeBase,
> {
  /** In lower case: names the protocol in statistics (`exchanges`, `parseErrors`) and in `Exchange.protocol`. */
  readonly name: string;
  /** As people write it: `PostgreSQL`. */
  readonly title: string;
  /** What one exchange is called, in the plural: `SQL statements`. */
  readonly exchanges: string;
  /** The file in docs/protocols/. */
  readonly page: string;
  /** What is read of it, in a few words: the tables of pages in README.md and docs/README.md are printed from it. */
  readonly reads: string;
  /** Ports registered with IANA: a hint where bytes are ambiguous. `server.port` of a database is said when it is another. */
  readonly ports: readonly number[];
  /** Values of db.system.name; none when it is no database. */
  readonly systems: readonly string[];
  /** Sections of the configuration, by their names. */
  readonly config: Sections;
  /** Limits, by their names, which are unique among all modules unless they are the same object. */
  readonly limits: Definitions;
  /** Words that this protocol counts, by key of the statistics. */
  readonly reasons: readonly ReasonTable[];
  create(parts: ModuleParts<Sections, Definitions>): ModuleProtocols;
  /** Bytes that a finished exchange costs while it is kept (memory/cost.ts); always the same for one exchange. */
  cost(exchange: Exchange): number;
  /** What the exchange says for people and programs: console, `--output jsonl`, feed. */
  readonly view: Viewer<Exchange, ConfigValues<Sections>>;
  /**
   * How the exchange becomes spans and durations.
   *
   * @param module this one: its name, ports and systems are stated here only
   */
  spans(options: MappingOptions<ConfigValues<Sections>>, module: MappedModule): SpanMapping<ExchangeBase>;
}

/** @returns the module, with the types of its configuration and limits inferred and checked */
export function defineProtocol<
  Sections extends ConfigSections,
  Definitions extends LimitDefinitions,
  Exchange extends ExchangeBase,
>(module: ProtocolModule<Sections, Definitions, Exchange>): ProtocolModule<Sections, Definitions, Exchange> {
  return module;
}
