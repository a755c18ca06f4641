/** The parts that a protocol's folder defines for the core: its limits, its sections of the configuration, its reason words. */
import { z } from 'zod';
import type { CamelCased } from './case.ts';

/** One cap, defined once. Its name ends in its unit, where it has one. */
export interface LimitDefinition {
  /** What holds unless the configuration says otherwise. */
  readonly value: number;
  readonly unit: 'bytes' | 'us' | 'count';
  /** One or two sentences for the reference of the configuration. */
  readonly meaning: string;
  /**
   * Where what the cap costs is counted: `connections.givenUp: pipeline_limit`, a key of the statistics and a reason. Missing: it costs
   * work, and no fact (a cache).
   */
  readonly counted?: string;
  /** The name of a limit of the core that this one must not exceed. */
  readonly atMost?: string;
}

export type LimitDefinitions = Readonly<Record<string, LimitDefinition>>;

/** The values of limits, by their names. */
export type LimitValues<Definitions> = { readonly [Name in keyof Definitions]: number };

/** @returns what holds by default */
export function limitValues<Definitions extends LimitDefinitions>(definitions: Definitions): LimitValues<Definitions> {
  return Object.fromEntries(
    Object.entries(definitions).map(([name, { value }]) => [name, value]),
  ) as LimitValues<Definitions>;
}

/** A top-level section of the configuration file. Several protocols may share one: they then name the same object. */
export interface ConfigSection<Shape extends z.ZodRawShape = z.ZodRawShape> {
  readonly description: string;
  /** Keys in snake case, each with a default and a description. */
  readonly shape: Shape;
}

/** Sections by their names. */
export type ConfigSections = Readonly<Record<string, ConfigSection>>;

/** A whole number with its range and default. */
export function whole(least: number, most: number, value: number, description: string) {
  return z.int().min(least).max(most).default(value).describe(description);
}

/** What a section's keys are in the program: validated, complete, names in camel case. */
export type SectionValues<Section> =
  Section extends ConfigSection<infer Shape> ? CamelCased<z.output<z.ZodObject<Shape>>> : never;

/** The values of sections, by the names of the sections. */
export type ConfigValues<Sections> = { readonly [Name in keyof Sections]: SectionValues<Sections[Name]> };

/** What a reason word of the statistics means. */
export interface Reason {
  /** One or two sentences for people. */
  readonly meaning: string;
  /** What to do; missing: nothing. */
  readonly action?: string;
}

/** The action of a reason word that stands for a limit. */
export const RAISE_LIMIT = 'Raise the limit that docs/reference/configuration.md names, if the memory is there.';

/** Reason words under one key of the statistics. */
export interface ReasonTable {
  /** Its key in the statistics. */
  readonly key: string;
  /** The heading; that of the table which first names the key counts. */
  readonly title: string;
  readonly reasons: Readonly<Record<string, Reason>>;
}
