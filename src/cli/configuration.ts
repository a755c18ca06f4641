import { readEnvironment } from '../config/environment.ts';
import { loadConfig } from '../config/load.ts';
import type { Config, ConfigFile } from '../config/schema.ts';
import type { PipelineArguments } from './arguments.ts';

/**
 * Merges the environment, the configuration file and the command line, each going before the one named before it.
 *
 * @param warn takes what is wrong with the environment, and is not used for that
 * @throws ConfigError
 */
export function mergeConfiguration(
  options: PipelineArguments,
  environment: Readonly<Record<string, string | undefined>>,
  warn: (message: string) => void,
): Config {
  const fromEnvironment = readEnvironment(environment);
  for (const warning of fromEnvironment.warnings) warn(warning);
  const fromCommandLine: ConfigFile = {
    ...(options.outputs.length > 0 && { outputs: [...options.outputs] }),
    ...(options.cgroup !== undefined && { capture: { cgroup: options.cgroup } }),
    ...(options.listen !== undefined && { telemetry: { listen: options.listen } }),
    log: {
      ...(options.logLevel !== undefined && { level: options.logLevel }),
      ...(options.logFormat !== undefined && { format: options.logFormat }),
    },
  };
  return loadConfig(options.config, { below: fromEnvironment.values, above: fromCommandLine });
}
