/** Reads Prometheus' text format, as far as what we scrape uses it. */

export interface Sample {
  name: string;
  labels: Readonly<Record<string, string>>;
  value: number;
}

const LINE = /^([\w:]+)(?:\{(.*)\})? (\S+)(?: \d+)?$/;
const LABEL = /([\w:]+)="((?:[^"\\]|\\.)*)"/g;

/** Of one scrape. */
export class Samples {
  readonly text: string;
  readonly all: readonly Sample[];

  constructor(text: string) {
    this.text = text;
    this.all = text.split('\n').flatMap((line) => {
      const match = line.startsWith('#') ? null : LINE.exec(line);
      if (match === null) return [];
      const labels = Object.fromEntries([...(match[2] ?? '').matchAll(LABEL)].map(([, key, value]) => [key!, value!]));
      return [{ name: match[1]!, labels, value: Number(match[3]) }];
    });
  }

  /** Those of a name that have these labels, whatever others they have. */
  of(name: string, labels: Readonly<Record<string, string>> = {}): Sample[] {
    return this.all.filter(
      (sample) => sample.name === name && Object.entries(labels).every(([key, value]) => sample.labels[key] === value),
    );
  }

  /** 0 when there is none. */
  sum(name: string, labels: Readonly<Record<string, string>> = {}): number {
    return this.of(name, labels).reduce((sum, { value }) => sum + value, 0);
  }
}

/** Empty while nobody answers. */
export async function samplesOf(url: string): Promise<Samples> {
  const text = await fetch(url).then(
    (response) => response.text(),
    () => '',
  );
  return new Samples(text);
}
