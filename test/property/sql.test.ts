import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import fc from 'fast-check';
import { type BackslashRule, SqlAnalyser } from '../../src/sql/analyser.ts';
import type { SqlDialect, SqlStatement } from '../../src/sql/statement.ts';

const dialects = ['postgresql', 'mysql'] as const;
const runs = { numRuns: 2000 };

function analyserOf(dialect: SqlDialect, maxTextBytes = 2048): SqlAnalyser {
  return new SqlAnalyser({ dialect, maxTextBytes, rawText: false, ignore: [], cacheEntries: 16 });
}

function analyse(analyser: SqlAnalyser, text: Buffer, backslash: BackslashRule): readonly SqlStatement[] {
  return analyser.analyse(text, 0, text.length, 'utf8', backslash);
}

/** Every string that may leave of a statement. What USE and SET search_path name is the namespace: it is meant to. */
function strings(statement: SqlStatement): string {
  const { text, summary, operation, collection, storedProcedure, traceparent, tracestate } = statement;
  return [text, summary, operation, collection, storedProcedure, traceparent, tracestate].join('\n');
}

/** Markers that stand for a value: a word that no statement below has, or digits of which no name has so many. */
const WORD = 'zqxjkv';
const DIGITS = '7391846';

/** What may surround the marker within a string, already escaped for a literal without backslashes; then with them. */
const plainNoise = fc.stringMatching(/^[a-z0-9 ,;()$@#:?"`\n*/-]{0,12}$/).map((noise) => noise.replaceAll('--', '-'));
const plain = fc
  .tuple(plainNoise, plainNoise, fc.constantFrom('', "''", "''''"))
  .map(([a, b, quote]) => `${a}${quote}${WORD}${b}`);
const escapes = fc.constantFrom('', '\\\\', '\\n', '\\x41', "\\'", "''", '\\"', '\\\\\\\\', '\\%');
const escaped = fc.tuple(plainNoise, escapes, escapes, plainNoise).map(([a, x, y, b]) => `${a}${x}${WORD}${y}${b}`);
const space = fc.constantFrom(' ', '\n', '\t', '  ', '/* note */', ' -- note\n', '/**/', '\r\n');

const number = fc.constantFrom(
  ...[
    DIGITS,
    `-${DIGITS}`,
    `+${DIGITS}`,
    `${DIGITS}.5`,
    `.${DIGITS}`,
    `-.${DIGITS}`,
    `1.${DIGITS}`,
    `${DIGITS}e5`,
    `${DIGITS}E-5`,
  ],
  ...[`${DIGITS}.`, `1e+${DIGITS}`, `0x${DIGITS}`, `0x${DIGITS}aF`, `${DIGITS}.0e+10`, `- ${DIGITS}`],
);

const postgresLiteral = fc.oneof(
  plain.map((content) => `'${content}'`),
  plain.map((content) => `n'${content}'`),
  plain.map((content) => `U&'${content.replaceAll('\\', '')}'`),
  plain.map((content) => `x'${content}'`),
  plain.map((content) => `B'${content}'`),
  escaped.map((content) => `E'${content}'`),
  fc.tuple(plain, plain).map(([a, b]) => `'${a}' -- c\n '${b}'`),
  fc.tuple(escaped, escaped).map(([a, b]) => `e'${a}'\n\t'${b}'`),
  fc
    .tuple(plain, fc.constantFrom('', 'a', 'body_1', 'é'))
    .map(([content, tag]) => `$${tag}$${content.replaceAll('$', '')}' " \\ $x $${tag}$`),
  plain.map((content) => `date '${content}'`),
  plain.map((content) => `interval '${content}' day`),
  plain.map((content) => `'${content}'::text`),
  number,
  fc.constantFrom(`7_391_846_${DIGITS}`, `0o${DIGITS}`, `0X${DIGITS}`, `0b1${DIGITS}`),
);

const mysqlLiteral = fc.oneof(
  escaped.map((content) => `'${content}'`),
  plain.map((content) => `"${content.replaceAll('"', '""')}"`),
  escaped.map((content) => `N'${content}'`),
  escaped.map((content) => `_utf8mb4'${content}'`),
  escaped.map((content) => `_binary '${content}'`),
  fc.constantFrom(`x'${DIGITS}'`, `X'${DIGITS}'`, `b'1${DIGITS}'`),
  fc.tuple(escaped, escaped).map(([a, b]) => `'${a}' '${b}'`),
  escaped.map((content) => `timestamp'${content}'`),
  escaped.map((content) => `{ d '${content}' }`),
  number,
);

const literalOf = { postgresql: postgresLiteral, mysql: mysqlLiteral } as const;

/** Statements with holes for values; `;` at the end of some, so that several can follow each other. */
const templates = {
  postgresql: [
    'SELECT ~, ~ AS c FROM t WHERE a = ~ AND b IN (~,~, ~)',
    'INSERT INTO s.t (a, "B b") VALUES (~, ~), (~, ~) ON CONFLICT (a) DO UPDATE SET a = ~ RETURNING ~',
    'UPDATE t SET a=~,b = ~ WHERE c->>~=~ AND d ? ~',
    'WITH q AS (SELECT ~ FROM u) DELETE FROM t USING q WHERE x BETWEEN ~ AND ~',
    'CALL p(~, $1, ~)',
    'CREATE USER joe PASSWORD ~',
    'ALTER ROLE joe SET app.secret = ~',
    'SET app.secret TO ~',
    'COMMENT ON TABLE t IS ~',
    'CREATE SUBSCRIPTION s CONNECTION ~ PUBLICATION p',
    'SELECT a-~, $1-~, (b)-~, a[~:~], array[~,~], ~+~ FROM f(~) LIMIT ~ OFFSET ~',
    'EXECUTE q(~)',
    'CREATE FUNCTION f() RETURNS text LANGUAGE sql BEGIN ATOMIC SELECT ~; SELECT CASE WHEN ~ THEN ~ END; END',
    'DO ~',
    'NOTIFY c, ~',
    'DECLARE c CURSOR FOR SELECT ~ FROM t',
    'COPY t FROM ~ WITH (DELIMITER ~)',
    'PREPARE TRANSACTION ~',
  ],
  mysql: [
    'SELECT ~, ~ AS c FROM t WHERE a = ~ AND b IN (~,~, ~)',
    'INSERT INTO s.t (a, `B b`) VALUES (~, ~), (~, ~) ON DUPLICATE KEY UPDATE a = ~',
    'REPLACE t SET a=~,b = ~',
    'UPDATE t, u SET a=~ WHERE b<=>~ ORDER BY c LIMIT ~',
    'CALL p(~, ?, ~, @v)',
    'CREATE USER ~@~ IDENTIFIED BY ~',
    'SET PASSWORD FOR ~ = ~',
    'SET @v = ~, @@session.sql_mode = ~',
    'SELECT /*!40001 SQL_NO_CACHE ~, */ a FROM t # note\n WHERE x=~',
    'LOAD DATA LOCAL INFILE ~ INTO TABLE t FIELDS TERMINATED BY ~',
    'CREATE PROCEDURE p() BEGIN IF a = ~ THEN SELECT ~; ELSE SELECT ~; END IF; END',
    'CREATE EVENT e ON SCHEDULE EVERY ~ DAY DO DELETE FROM t WHERE a < ~',
    'SELECT a-~, ?-~, (b)-~, ~ DIV ~, ~+~ FROM t',
    'PREPARE q FROM ~',
    'GRANT ALL ON t TO ~ IDENTIFIED BY ~',
  ],
} as const;

function statementOf(dialect: SqlDialect): fc.Arbitrary<string> {
  const literal = literalOf[dialect];
  return fc
    .tuple(
      fc.constantFrom(...templates[dialect]),
      fc.array(literal, { minLength: 16, maxLength: 16 }),
      fc.array(space, { minLength: 1, maxLength: 4 }),
    )
    .map(([template, literals, spaces]) => {
      let hole = 0;
      let gap = 0;
      const filled = template.replaceAll(/ /g, () => spaces[gap++ % spaces.length]!);
      // Behind a minus sign another one would begin a comment.
      return filled.replaceAll(/-?~/g, (found) => {
        const literal = literals[hole++ % literals.length]!;
        return found === '~' ? literal : `-${literal.replace(/^[- +]+/, '')}`;
      });
    });
}

function assertNoMarker(statement: SqlStatement, text: string): void {
  const all = strings(statement);
  for (const marker of [WORD, DIGITS, DIGITS.slice(0, 5)]) {
    assert.ok(!all.includes(marker), `${marker} of ${JSON.stringify(text)} is in ${JSON.stringify(all)}`);
  }
}

for (const dialect of dialects) {
  describe(`SQL texts, ${dialect}`, () => {
    it('never lets a literal out', () => {
      const analyser = analyserOf(dialect);
      const rules = fc.constantFrom<BackslashRule>(dialect === 'mysql' ? 'escape' : 'literal', 'unknown');
      let withText = 0;
      fc.assert(
        fc.property(fc.array(statementOf(dialect), { minLength: 1, maxLength: 3 }), rules, (texts, rule) => {
          const text = texts.join(';\n');
          for (const statement of analyse(analyser, Buffer.from(text), rule)) {
            assertNoMarker(statement, text);
            if (statement.text !== '') withText++;
          }
        }),
        runs,
      );
      assert.ok(withText > runs.numRuns / 2, `only ${withText} texts came out at all`);
    });

    it('finds each statement of a text, and gives each the text that it has alone', () => {
      const rule = dialect === 'mysql' ? 'escape' : 'literal';
      fc.assert(
        fc.property(fc.array(statementOf(dialect), { minLength: 1, maxLength: 4 }), (texts) => {
          const alone = texts.map((text) => analyse(analyserOf(dialect), Buffer.from(text), rule));
          // A literal that leaves doubt costs what follows it.
          fc.pre(alone.every((statements) => statements.length === 1 && statements[0]!.text !== ''));
          // So does a change of the rules by which MySQL reads what follows.
          fc.pre(texts.slice(0, -1).every((text) => !text.includes('sql_mode')));
          const together = analyse(analyserOf(dialect), Buffer.from(texts.join(';')), rule);
          assert.equal(together.length, texts.length);
          for (const [index, statement] of together.entries()) {
            assert.equal(statement.text.replace(/;$/, ''), alone[index]![0]!.text);
            assert.equal(statement.summary, alone[index]![0]!.summary);
          }
        }),
        { numRuns: 500 },
      );
    });

    it('lets no literal out of a text that is cut anywhere', () => {
      const analyser = analyserOf(dialect, 40);
      fc.assert(
        fc.property(statementOf(dialect), fc.nat(), (text, cut) => {
          const bytes = Buffer.from(text);
          for (const statement of analyse(analyser, bytes.subarray(0, cut % (bytes.length + 1)), 'unknown')) {
            assertNoMarker(statement, text);
            assert.ok(Buffer.byteLength(statement.text) <= 40);
          }
        }),
        runs,
      );
    });

    it('reads its own texts as they are', () => {
      const rule = dialect === 'mysql' ? 'escape' : 'literal';
      fc.assert(
        fc.property(fc.oneof(statementOf(dialect), garbage()), (text) => {
          for (const statement of analyse(analyserOf(dialect), Buffer.from(text), rule)) {
            if (statement.text === '' || statement.truncated) continue;
            const again = analyserOf(dialect).analyseOne(
              Buffer.from(statement.text),
              0,
              Buffer.byteLength(statement.text),
              'utf8',
              rule,
            );
            assert.equal(again?.text, statement.text);
            assert.equal(again?.summary, statement.summary);
          }
        }),
        runs,
      );
    });

    it('sees nothing beyond the ends of the text', () => {
      fc.assert(
        fc.property(fc.oneof(statementOf(dialect), garbage()), fc.nat(), fc.nat(), (text, a, b) => {
          const bytes = Buffer.from(text);
          const start = Math.min(a % (bytes.length + 1), b % (bytes.length + 1));
          const end = Math.max(a % (bytes.length + 1), b % (bytes.length + 1));
          const within = analyserOf(dialect).analyse(bytes, start, end, 'latin1');
          const alone = Buffer.from(bytes.subarray(start, end));
          assert.deepEqual(within, analyserOf(dialect).analyse(alone, 0, alone.length, 'latin1'));
        }),
        runs,
      );
    });

    it('never throws, and says the same of the same text', () => {
      const analyser = analyserOf(dialect, 64);
      const rules = fc.constantFrom<BackslashRule>('escape', 'literal', 'unknown');
      const bytes = fc.oneof(
        garbage().map((text) => Buffer.from(text)),
        fc.uint8Array({ maxLength: 80 }).map((array) => Buffer.from(array)),
      );
      fc.assert(
        fc.property(bytes, rules, fc.constantFrom('utf8', 'latin1', 'unsafe'), (text, rule, encoding) => {
          const first = analyser.analyse(text, 0, text.length, encoding, rule);
          for (let again = 0; again < 3; again++) {
            assert.deepEqual(analyser.analyse(text, 0, text.length, encoding, rule), first);
          }
          analyser.analyseOne(text, 0, text.length, encoding, rule);
          for (const { text: shown, summary } of first) {
            assert.ok(Buffer.byteLength(shown) <= 64 && summary.length <= 255);
            assert.ok(encoding !== 'unsafe' || shown === '');
          }
        }),
        runs,
      );
    });
  });
}

/** Pieces of SQL in any order. */
function garbage(): fc.Arbitrary<string> {
  const pieces = fc.constantFrom(
    ...[
      "'",
      '"',
      '`',
      '$$',
      '$a$',
      '$1',
      '?',
      '\\',
      '--',
      '-- ',
      '/*',
      '*/',
      '/*!',
      '/*!50110',
      '/*M!',
      '#',
      '\n',
      ' ',
      ';',
      '(',
    ],
    ...[
      ')',
      ',',
      '.',
      '@',
      '@@',
      ':',
      '::',
      '-',
      '+',
      '1',
      '0x1',
      '1e',
      '.5',
      'e',
      'E',
      'U&',
      'N',
      "x'",
      'é',
      '\u{1F600}',
      '=',
      'a',
    ],
    ...[
      'SELECT',
      'FROM',
      'JOIN',
      'WITH',
      'AS',
      'INSERT',
      'INTO',
      'VALUES',
      'UNION',
      'IN',
      'IS',
      'TRUE',
      'CREATE',
      'TABLE',
      'BEGIN',
    ],
    ...[
      'FUNCTION',
      'ATOMIC',
      'END',
      'CASE',
      'SET',
      'PASSWORD',
      'TO',
      'EXPLAIN',
      'SHOW',
      'DROP',
      'CALL',
      'DELETE',
      'USING',
      '_binary',
    ],
  );
  return fc.array(fc.tuple(pieces, fc.constantFrom('', ' ')), { maxLength: 24 }).map((array) => array.flat().join(''));
}
