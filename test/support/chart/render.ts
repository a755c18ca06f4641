/**
 * `npm run chart`: makes again what is made of the chart and for it: its copies of files, the schema of its values, the plain manifests
 * and the golden files. Look at what git says has changed before you commit it.
 */
import { writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { root } from '../programs/paths.ts';
import { madeFiles, renderedFiles } from './chart.ts';

for (const make of [madeFiles, renderedFiles]) {
  for (const [file, text] of await make()) writeFileSync(join(root, file), text);
}
