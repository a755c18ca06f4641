/** Path patterns such as `/orders/{id}`, `/orders/:id` or `/static/*`. */
export class PathPatterns {
  private readonly patterns: readonly { readonly text: string; readonly segments: readonly string[] }[];

  constructor(patterns: readonly string[]) {
    this.patterns = patterns.map((text) => ({ text, segments: text.split('/') }));
  }

  /** @returns the first pattern that matches, as it was given; empty: none does */
  match(path: string): string {
    if (this.patterns.length === 0) return '';
    const segments = path.split('/');
    for (const pattern of this.patterns) if (matchesRoute(pattern.segments, segments)) return pattern.text;
    return '';
  }
}

/** @param pattern split at `/`, as the path is */
export function matchesRoute(pattern: readonly string[], path: readonly string[]): boolean {
  for (let i = 0; i < pattern.length; i++) {
    const wanted = pattern[i]!;
    if (wanted === '*' && i === pattern.length - 1) return path.length > i;
    const given = path[i];
    if (given === undefined) return false;
    const variable = wanted.startsWith(':') || (wanted.startsWith('{') && wanted.endsWith('}'));
    if (variable ? given === '' : given !== wanted) return false;
  }
  return pattern.length === path.length;
}
