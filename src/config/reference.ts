import { configTree, describeType, type SchemaNode } from './describe.ts';

/**
 * @returns the configuration reference as Markdown, one table per section; docs/reference/configuration.md carries it between the lines
 *   `<!-- configuration reference -->` and `<!-- end of configuration reference -->`
 */
export function configReference(): string {
  const sections = Object.entries(configTree.properties ?? {});
  const leaves = sections.filter(([, node]) => node.type !== 'object');
  const lines = [...table(leaves, '')];
  for (const [name, node] of sections) {
    if (node.type !== 'object') continue;
    lines.push(
      '',
      `**\`${name}\`**: ${node.description ?? ''}`,
      '',
      ...table(Object.entries(node.properties ?? {}), `${name}.`),
    );
  }
  return `${lines.join('\n')}\n`;
}

function table(keys: readonly [string, SchemaNode][], prefix: string): string[] {
  const rows = keys.map(
    ([key, node]) =>
      `| \`${prefix}${key}\` | ${describeType(node)} | ${describeDefault(node)} | ${node.description ?? ''} |`,
  );
  return [
    '| Key | Value | Default | Meaning |',
    '| --- | --- | --- | --- |',
    ...rows.map((row) => row.replace(/\n/g, ' ')),
  ];
}

function describeDefault(node: SchemaNode): string {
  const value = node.default;
  if (value === undefined) return '';
  if (typeof value === 'object' && Object.keys(value ?? {}).length === 0) return 'none';
  if (Array.isArray(value)) return value.map((entry) => `\`${entry}\``).join(' ');
  return `\`${String(value)}\``;
}
