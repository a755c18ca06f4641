/** The dashboards that we ship, as Grafana's JSON model. */
import { readdirSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { root } from '../programs/paths.ts';

const folder = join(root, 'collector-config', 'dashboards');

export interface Panel {
  id: number;
  type: string;
  title: string;
  description?: string;
  gridPos: { x: number; y: number; w: number; h: number };
  datasource?: { type: string; uid: string };
  targets?: { expr: string; refId: string; datasource: { uid: string } }[];
}

export interface Dashboard {
  file: string;
  uid: string;
  title: string;
  panels: Panel[];
  templating: { list: { name: string; type: string; definition?: string }[] };
}

export const dashboards: readonly Dashboard[] = readdirSync(folder)
  .filter((file) => file.endsWith('.json'))
  .map((file) => ({ ...(JSON.parse(readFileSync(join(folder, file), 'utf8')) as Dashboard), file }));

export interface Expression {
  /** Dashboard and panel. */
  where: string;
  expression: string;
}

/**
 * Every expression, with what Grafana puts in for its variables: all values of those that are chosen, and a window.
 * @param window such as `5m`
 */
export function expressionsOf(dashboard: Dashboard, window: string): Expression[] {
  return dashboard.panels.flatMap(({ title, targets = [] }) =>
    targets.map(({ expr }) => ({
      where: `${dashboard.file}: ${title}`,
      expression: expr.replaceAll(/\$__(?:rate_interval|range)\b/g, window).replaceAll(/\$\w+/g, '.*'),
    })),
  );
}
