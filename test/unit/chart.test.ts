/** What the chart holds of other parts of the repository is theirs, as it is now. */
import assert from 'node:assert/strict';
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { test } from 'node:test';
import { parse } from 'yaml';
import { capabilityUses } from '../../src/doctor/capabilities.ts';
import { chartFolder, madeFiles } from '../support/chart/chart.ts';
import { root } from '../support/programs/paths.ts';

const read = (file: string) => readFileSync(join(root, file), 'utf8');
const { version } = JSON.parse(read('package.json')) as { version: string };

test('the schema of its values and its copies of files are current; npm run chart makes them again', async () => {
  for (const [file, text] of await madeFiles()) assert.equal(read(file), text, file);
});

test('it is for this version of the agent, and the image says the same', () => {
  const { appVersion } = parse(readFileSync(join(chartFolder, 'Chart.yaml'), 'utf8')) as { appVersion: string };
  assert.equal(appVersion, version);
  assert.match(read('Dockerfile'), new RegExp(`^ARG VERSION=${version.replaceAll('.', '\\.')}$`, 'm'));
});

test('the image has the Node that is tested', () => {
  const tested = /TESTED = '(.*)'/.exec(read('native/setup/node.mjs'))?.[1];
  assert.match(read('Dockerfile'), new RegExp(`^ARG NODE=node:${tested?.replaceAll('.', '\\.')}-bookworm-slim$`, 'm'));
});

test('metrics are scraped under the names of jobs that the rules look for', () => {
  const { scrape_configs: jobs } = parse(read('collector-config/prometheus.yml')) as {
    scrape_configs: { job_name: string }[];
  };
  for (const file of ['podmonitor', 'servicemonitor']) {
    const template = readFileSync(join(chartFolder, `templates/${file}.yaml`), 'utf8');
    assert.deepEqual(
      [...template.matchAll(/replacement: (\S+)/g)].map((match) => match[1]).sort(),
      jobs.map((job) => job.job_name).sort(),
      file,
    );
  }
});

test('the container gets the capabilities that the agent asks for', () => {
  const helpers = readFileSync(join(chartFolder, 'templates/_helpers.tpl'), 'utf8');
  const [, list = ''] = /define "wirespan\.capabilities" -\}\}\n((?:- \w+\n)+)/.exec(helpers) ?? [];
  assert.deepEqual(
    list
      .match(/\w+/g)
      ?.map((name) => `CAP_${name}`)
      .sort(),
    capabilityUses.map(({ name }) => name).sort(),
  );
});
