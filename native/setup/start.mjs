#!/usr/bin/env node
/** `npm start [-- COMMAND OPTIONS]`: set-up, then the given command of wirespan, `agent` when none is given. */
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { root } from './common.mjs';
import { prepare, replaceBy } from './prepare.mjs';

const given = process.argv.slice(2);
const first = given[0];
const standsAlone = first === '--version' || first === '--help' || first === '-h';
const args = first !== undefined && (standsAlone || !first.startsWith('-')) ? given : ['agent', ...given];

const node = prepare();
const entry = join(root, 'dist', 'main.js');
// As its first line says: #!/usr/bin/env -S node OPTIONS
const [, options = ''] = /^#!.* node(.*)$/m.exec(readFileSync(entry, 'utf8')) ?? [];
await replaceBy(node, [...options.split(' ').filter(Boolean), entry, ...args]);
