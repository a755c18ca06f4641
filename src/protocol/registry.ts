/** What is made of the list of protocols (`modules.ts`): layers, limits, sections of the configuration. */
import {
  type ConfigSection,
  type ConfigValues,
  type LimitDefinition,
  type LimitValues,
  limitValues,
  type ReasonTable,
} from '../config/define.ts';
import { defaultLimits, type Limits } from '../config/limits.ts';
import type { Exchange, ExchangeBase } from '../exchange/exchange.ts';
import type { Viewer } from '../export/view.ts';
import type { MemoryBudget } from '../memory/budget.ts';
import type { MappingOptions, SpanMapping } from '../span/mapping.ts';
import type { Counters } from '../telemetry/counters.ts';
import type { Protocol } from './layer.ts';
import type { HttpExtension, ModuleParts, ProtocolModule } from './module.ts';
import * as list from './modules.ts';

type Listed = (typeof list)[keyof typeof list];
type Intersection<Union> = (Union extends unknown ? (each: Union) => void : never) extends (each: infer All) => void
  ? All
  : never;

/** Sections of the configuration that the protocols define, by name. */
export type ModuleSections = Intersection<Listed['config']>;
/** Values of the limits that the protocols define, by name. */
export type ModuleLimits = LimitValues<Intersection<Listed['limits']>>;
/** The limits of the core and of all protocols. */
export type AllLimits = Limits & ModuleLimits;

/** In the order of their names. */
export const protocolModules: readonly ProtocolModule[] = Object.values<ProtocolModule>(list);

const byName: ReadonlyMap<string, ProtocolModule> = new Map(protocolModules.map((module) => [module.name, module]));

/** @returns the module whose exchanges have this name */
function moduleOf(protocol: string): ProtocolModule {
  const module = byName.get(protocol);
  if (module === undefined) throw new Error(`no protocol is called ${protocol}`);
  return module;
}

/** @returns bytes that a finished exchange costs while it is kept */
export function exchangeCost(exchange: Exchange): number {
  return moduleOf(exchange.protocol).cost(exchange);
}

/** How exchanges become spans. */
export const protocolMappings: readonly ((options: MappingOptions) => SpanMapping<ExchangeBase>)[] =
  protocolModules.map((module) => (options: MappingOptions) => module.spans(options as MappingOptions<never>, module));

/** What exchanges say for people and programs, by `Exchange.protocol`. */
export const protocolViewers: ReadonlyMap<string, Viewer<Exchange>> = new Map(
  protocolModules.map(({ name, view }) => [name, view]),
);

/** @throws Error when two modules define the same name in different ways */
function joined<Value>(all: readonly Readonly<Record<string, Value>>[]): Readonly<Record<string, Value>> {
  const result: Record<string, Value> = {};
  for (const [name, value] of all.flatMap(Object.entries<Value>)) {
    if ((result[name] ?? value) !== value) throw new Error(`two protocols define ${name}`);
    result[name] = value;
  }
  return result;
}

export const moduleSections: Readonly<Record<string, ConfigSection>> = joined(
  protocolModules.map(({ config }) => config),
);
export const moduleLimits: Readonly<Record<string, LimitDefinition>> = joined(
  protocolModules.map(({ limits }) => limits),
);

/** Reason words that the protocols count. */
export const moduleReasons: readonly ReasonTable[] = [...new Set(protocolModules.flatMap(({ reasons }) => reasons))];

/** What holds unless the configuration says otherwise. */
export const defaultAllLimits = { ...defaultLimits, ...limitValues(moduleLimits) } as AllLimits;

/** @throws Error that says which limits contradict each other */
export function assertModuleLimits(limits: AllLimits): void {
  const values = limits as unknown as Readonly<Record<string, number>>;
  for (const [name, { atMost }] of Object.entries(moduleLimits)) {
    if (atMost !== undefined && values[name]! > values[atMost]!) {
      throw new Error(`limits: ${name} <= ${atMost} does not hold`);
    }
  }
}

export interface ProtocolOptions {
  /** The sections of all protocols. */
  readonly config: ConfigValues<ModuleSections>;
  readonly limits: AllLimits;
  readonly counters: Counters;
  readonly memory?: MemoryBudget | undefined;
}

/** @returns the application protocols that are looked for, in plain text and inside TLS */
export function createProtocols({ config, limits, counters, memory }: ProtocolOptions): readonly Protocol[] {
  // Each module finds its own limits and sections among those of all.
  const parts = { config, limits, counters, memory } as unknown as ModuleParts;
  const made = protocolModules.map((module) => module.create(parts));
  const extensions = made.flatMap(({ http }) => http ?? []);
  const http: Required<HttpExtension> = {
    bodies: extensions.flatMap(({ bodies }) => bodies ?? []),
    streams: extensions.flatMap(({ streams }) => streams ?? []),
    upgrades: joined(extensions.map(({ upgrades }) => upgrades ?? {})),
  };
  return protocolModules.flatMap(({ ports }, i) =>
    (made[i]!.connections?.(http) ?? []).map((protocol) => ({ ...protocol, ports })),
  );
}
