import assert from 'node:assert/strict';
import { execFileSync } from 'node:child_process';
import { existsSync, readFileSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { describe, it } from 'node:test';
import { fileURLToPath } from 'node:url';

const root = fileURLToPath(new URL('../..', import.meta.url));
const documents = execFileSync('git', ['ls-files', '-z', '--cached', '--others', '--exclude-standard', '*.md'], {
  cwd: root,
  encoding: 'utf8',
})
  .split('\0')
  .filter((file) => file !== '' && existsSync(join(root, file)));

/** GitHub's rule for the anchor of a heading. */
function anchorOf(heading: string): string {
  return heading
    .toLowerCase()
    .replace(/[^\p{L}\p{N} _-]/gu, '')
    .replaceAll(' ', '-');
}

function anchorsOf(file: string): string[] {
  return [...readFileSync(file, 'utf8').matchAll(/^#+ (.*)$/gm)].map((match) => anchorOf(match[1]!));
}

describe('documents', () => {
  it('link to files and headings that exist', () => {
    const broken: string[] = [];
    for (const file of documents) {
      const text = readFileSync(join(root, file), 'utf8');
      for (const [, target] of text.matchAll(/\]\(([^)\s]+)\)/g)) {
        if (/^[a-z]+:/.test(target!)) continue;
        const [path, anchor] = target!.split('#');
        const to = path === '' ? join(root, file) : join(root, dirname(file), path!);
        if (!existsSync(to)) broken.push(`${file}: ${target}`);
        else if (anchor !== undefined && !anchorsOf(to).includes(anchor)) broken.push(`${file}: ${target}`);
      }
    }
    assert.deepEqual(broken, []);
  });

  it('hold no trace of a merge', () => {
    const marked = documents.filter((file) => /^(?:<{7}|>{7}) /m.test(readFileSync(join(root, file), 'utf8')));
    assert.deepEqual(marked, []);
  });

  it('are all reached from the index of docs/', () => {
    const reached = new Set<string>();
    const visit = (file: string): void => {
      if (reached.has(file)) return;
      reached.add(file);
      for (const [, target] of readFileSync(join(root, file), 'utf8').matchAll(/\]\(([^)\s#]+\.md)[^)]*\)/g)) {
        const to = join(dirname(file), target!);
        if (!/^[a-z]+:/.test(target!) && documents.includes(to)) visit(to);
      }
    };
    visit('docs/README.md');
    assert.deepEqual(
      documents.filter((file) => file.startsWith('docs/') && !reached.has(file)),
      [],
    );
  });

  it('README.md and ARCHITECTURE.md have at most 150 lines', () => {
    for (const file of ['README.md', 'ARCHITECTURE.md']) {
      assert.ok(readFileSync(join(root, file), 'utf8').split('\n').length <= 151, file);
    }
  });

  it('each protocol has a page with the same sections', () => {
    const sections = ['Seen', 'Not seen', 'Attributes', 'Limits', 'Example'];
    const pages = documents.filter((file) => file.startsWith('docs/protocols/'));
    assert.ok(pages.length >= 5);
    for (const page of pages) {
      const headings = [...readFileSync(join(root, page), 'utf8').matchAll(/^## (.*)$/gm)].map((match) => match[1]);
      assert.deepEqual(headings, sections, page);
    }
  });
});
