/** The protocols as the program makes them, with what a test wants to be different. */
import type { ConfigValues } from '../../../src/config/define.ts';
import { configSchema, toConfig } from '../../../src/config/schema.ts';
import type { Protocol } from '../../../src/protocol/layer.ts';
import { createProtocols, defaultAllLimits, type ModuleSections } from '../../../src/protocol/registry.ts';
import { createSqlAnalyser, type SqlAnalyser, type SqlTextOptions } from '../../../src/sql/analyser.ts';
import type { SqlDialect } from '../../../src/sql/statement.ts';
import { type Counters, newCounters } from '../../../src/telemetry/counters.ts';

type Sections = ConfigValues<ModuleSections>;

export const defaultSqlTextOptions: SqlTextOptions = { maxTextBytes: 2048, rawText: false, ignore: [] };

type OwnSections = { readonly [Name in keyof Sections]?: Partial<Sections[Name]> };

/** @param own keys of the configuration that are not as by default */
export function sections(own: OwnSections = {}): Sections {
  const defaults = toConfig(configSchema.parse({})) as Sections;
  return Object.fromEntries(
    Object.entries(defaults).map(([name, values]) => [
      name,
      typeof values === 'object' ? { ...values, ...own[name as keyof Sections] } : values,
    ]),
  ) as unknown as Sections;
}

/** @param own keys of the configuration that are not as by default */
export function newProtocols(own: OwnSections = {}, counters: Counters = newCounters()): readonly Protocol[] {
  return createProtocols({ config: sections(own), limits: defaultAllLimits, counters });
}

export function newSqlAnalyser(dialect: SqlDialect, options: SqlTextOptions = defaultSqlTextOptions): SqlAnalyser {
  return createSqlAnalyser(dialect, options, defaultAllLimits, {});
}
