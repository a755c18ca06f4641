/** The values of `--output` and of `outputs` in the configuration file. */
export const outputForms = ['otlp', 'console', 'otlp-json', 'otlp-json=FILE', 'jsonl', 'jsonl=FILE', 'none'] as const;

const outputPattern = /^(?:otlp|console|none|(?:otlp-json|jsonl)(?:=.+)?)$/s;

export function isOutput(text: string): boolean {
  return outputPattern.test(text);
}

/** @returns why these outputs cannot stand together, or `undefined` when they can */
export function outputConflict(outputs: readonly string[]): string | undefined {
  const [first, second] = ['console', 'otlp-json', 'jsonl'].filter((output) => outputs.includes(output));
  if (second !== undefined) return `${first} and ${second} both write to standard output: expected ${second}=FILE`;
  if (outputs.includes('none') && outputs.some((output) => output !== 'none')) {
    return 'none excludes every other output';
  }
  return undefined;
}
