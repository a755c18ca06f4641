/** The values of `--output` and of `outputs` in the configuration file. */
export const outputForms = ['otlp', 'console', 'otlp-json', 'otlp-json=FILE', 'none'] as const;

const outputPattern = /^(?:otlp|console|none|otlp-json(?:=.+)?)$/s;

export function isOutput(text: string): boolean {
  return outputPattern.test(text);
}

/** @returns why these outputs cannot stand together, or `undefined` when they can */
export function outputConflict(outputs: readonly string[]): string | undefined {
  if (outputs.includes('console') && outputs.includes('otlp-json')) {
    return 'console and otlp-json both write to standard output: expected otlp-json=FILE';
  }
  if (outputs.includes('none') && outputs.some((output) => output !== 'none')) {
    return 'none excludes every other output';
  }
  return undefined;
}
