import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import type { SqlDialect } from '../../../src/sql/statement.ts';
import { analyseOne, analyserOf } from './support.ts';

function table(dialect: SqlDialect, cases: readonly (readonly [string, string])[]): void {
  const analyser = analyserOf(dialect);
  for (const [text, summary] of cases) it(text, () => assert.equal(analyseOne(analyser, text).summary, summary));
}

const common: readonly (readonly [string, string])[] = [
  // Queries within queries.
  [
    'SELECT (SELECT max(a) FROM b), c FROM d WHERE e IN (SELECT f FROM g) AND EXISTS (SELECT 1 FROM h)',
    'SELECT SELECT b d SELECT g SELECT h',
  ],
  ['SELECT * FROM (SELECT * FROM (SELECT * FROM users) a) b', 'SELECT SELECT SELECT users'],
  ['UPDATE a SET b = (SELECT c FROM d), e = 1, f = 2 WHERE g IN (SELECT h FROM i)', 'UPDATE a SELECT d SELECT i'],
  ['SELECT a FROM b LIMIT (SELECT c FROM d)', 'SELECT b SELECT d'],
  ['INSERT INTO a (b) VALUES ((SELECT c FROM d))', 'INSERT a SELECT d'],
  // Common table expressions: their names are no collections.
  ['WITH a AS (SELECT * FROM b), c AS (SELECT * FROM a JOIN d ON 1=1) SELECT * FROM c', 'SELECT b SELECT d SELECT'],
  ['WITH RECURSIVE a (x, y) AS (SELECT 1, 2 UNION ALL SELECT x, y FROM A) SELECT * FROM a, b', 'SELECT SELECT b'],
  ['WITH a AS (SELECT 1) INSERT INTO b SELECT * FROM a', 'SELECT INSERT b SELECT'],
  ['WITH a AS (SELECT 1) UPDATE b SET c = 1', 'SELECT UPDATE b'],
  ['WITH a AS (SELECT b FROM c) DELETE FROM d WHERE e IN (SELECT b FROM a)', 'SELECT c DELETE d SELECT'],
  ['SELECT * FROM (WITH a AS (SELECT * FROM b) SELECT * FROM a) c', 'SELECT SELECT b SELECT'],
  // Tables.
  ['SELECT * FROM a, b JOIN c ON b.x = c.x, d', 'SELECT a b c d'],
  ['SELECT * FROM a AS x LEFT OUTER JOIN b y USING (id) NATURAL JOIN c CROSS JOIN d', 'SELECT a b c d'],
  ['SELECT * FROM a JOIN (b CROSS JOIN c) ON d = e', 'SELECT a b c'],
  ['SELECT * FROM (a), (b)', 'SELECT a b'],
  ['SELECT * FROM s . a, s.b c', 'SELECT s.a s.b'],
  ['SELECT * FROM /* x */ a -- y\n , b', 'SELECT a b'],
  ['SELECT a FROM b GROUP BY c, d HAVING e > 1 ORDER BY f, g LIMIT 1, 2', 'SELECT b'],
  ['SELECT extract(year FROM a), trim(both FROM b), substring(c FROM 2) FROM d WHERE e IS DISTINCT FROM f', 'SELECT d'],
  ['SELECT * FROM a WHERE b = ? FOR UPDATE', 'SELECT a'],
  ['SELECT count(*) OVER (PARTITION BY a ORDER BY b) FROM c', 'SELECT c'],
  // Combined queries are one SELECT, as the published test case has it.
  ['(SELECT a FROM b) UNION (SELECT a FROM c) EXCEPT SELECT a FROM d', 'SELECT b c d'],
  ['SELECT a FROM b INTERSECT ALL SELECT a FROM c UNION VALUES (1)', 'SELECT b c'],
  ['SELECT a FROM b WHERE c IN (SELECT d FROM e UNION SELECT d FROM f)', 'SELECT b SELECT e f'],
  // Changes.
  ['DELETE FROM a WHERE b = 1', 'DELETE a'],
  ['INSERT INTO a SELECT * FROM b', 'INSERT a SELECT b'],
  ['VALUES (1), (2)', 'VALUES'],
  ['TABLE a', 'TABLE a'],
  // Definitions.
  ['CREATE TABLE a AS SELECT * FROM b', 'CREATE TABLE a SELECT b'],
  ['CREATE TEMPORARY TABLE IF NOT EXISTS a (b int, c int)', 'CREATE TABLE a'],
  ['CREATE OR REPLACE VIEW a AS SELECT * FROM b UNION SELECT * FROM c', 'CREATE VIEW a'],
  ['DROP TABLE IF EXISTS a, s.b CASCADE', 'DROP TABLE a s.b'],
  ['ALTER TABLE a ADD COLUMN b int, DROP COLUMN c', 'ALTER TABLE a'],
  ['TRUNCATE TABLE a', 'TRUNCATE TABLE a'],
  ['GRANT SELECT, INSERT ON a TO b', 'GRANT a'],
  ['DROP FUNCTION f', 'DROP FUNCTION f'],
  // The rest.
  ['BEGIN', 'BEGIN'],
  ['START TRANSACTION READ ONLY', 'START TRANSACTION'],
  ['COMMIT', 'COMMIT'],
  ['commit work', 'commit work'],
  ['ROLLBACK', 'ROLLBACK'],
  ['ROLLBACK TO SAVEPOINT s1_x2', 'ROLLBACK TO SAVEPOINT'],
  ['SAVEPOINT s1_x2', 'SAVEPOINT'],
  ['RELEASE SAVEPOINT s1_x2', 'RELEASE SAVEPOINT'],
  ['CALL p(1, 2)', 'CALL p'],
  ['EXPLAIN ANALYZE SELECT * FROM a', 'EXPLAIN SELECT a'],
  ['DEALLOCATE PREPARE pdo_stmt_00000001', 'DEALLOCATE'],
  ['FLY me TO the moon', 'FLY'],
  ['hunter2 SELECT', ''],
  ['?', ''],
];

for (const dialect of ['postgresql', 'mysql'] as const) describe(`summaries, ${dialect}`, () => table(dialect, common));

describe('summaries, PostgreSQL only', () => {
  table('postgresql', [
    [
      'SELECT * FROM "a b"."C" x, ONLY d, LATERAL (SELECT * FROM e) f, generate_series(1, (SELECT 2)) g',
      'SELECT "a b"."C" d SELECT e generate_series SELECT',
    ],
    ['UPDATE ONLY a SET b = c.b FROM c JOIN d ON true WHERE a.x = c.x', 'UPDATE a c d'],
    ['DELETE FROM a USING b, c WHERE a.x = b.x', 'DELETE a b c'],
    ['INSERT INTO a (b) VALUES (1) ON CONFLICT (b) DO UPDATE SET c = 1, d = 2 WHERE e RETURNING f, g', 'INSERT a'],
    [
      'MERGE INTO a USING b ON a.x = b.x WHEN MATCHED THEN UPDATE SET c = 1 WHEN NOT MATCHED THEN INSERT VALUES (1)',
      'MERGE a b',
    ],
    ['MERGE INTO a USING (SELECT * FROM b) c ON true WHEN MATCHED THEN DELETE', 'MERGE a SELECT b'],
    ['WITH a AS MATERIALIZED (DELETE FROM b RETURNING c) INSERT INTO d SELECT c FROM a', 'DELETE b INSERT d SELECT'],
    ['SELECT a INTO b FROM c', 'SELECT c'],
    ['COPY a (b, c) FROM STDIN WITH (FORMAT csv)', 'COPY a'],
    ['COPY (SELECT * FROM a) TO STDOUT', 'COPY SELECT a'],
    ['CREATE UNIQUE INDEX CONCURRENTLY IF NOT EXISTS a ON b (c)', 'CREATE INDEX a'],
    ['CREATE INDEX ON b (c)', 'CREATE INDEX b'],
    ['CREATE MATERIALIZED VIEW a AS SELECT * FROM b', 'CREATE MATERIALIZED VIEW a SELECT b'],
    ['REFRESH MATERIALIZED VIEW CONCURRENTLY a', 'REFRESH MATERIALIZED VIEW a'],
    ['CREATE FOREIGN TABLE a (b int) SERVER c', 'CREATE FOREIGN TABLE a'],
    ['CREATE FUNCTION f(a int) RETURNS int LANGUAGE sql AS $$ SELECT * FROM secret $$', 'CREATE FUNCTION f'],
    ['CREATE EVENT TRIGGER a ON ddl_command_start EXECUTE FUNCTION b()', 'CREATE EVENT TRIGGER a'],
    ['CREATE USER MAPPING FOR a SERVER b', 'CREATE USER MAPPING'],
    ['ALTER DEFAULT PRIVILEGES IN SCHEMA a GRANT SELECT ON TABLES TO b', 'ALTER DEFAULT PRIVILEGES'],
    ['COMMENT ON COLUMN a.b IS $1', 'COMMENT ON COLUMN a.b'],
    ['DO $$ BEGIN PERFORM 1; END $$', 'DO'],
    ['VACUUM (FULL, ANALYZE) a', 'VACUUM a'],
    ['VACUUM', 'VACUUM'],
    ['ANALYZE a (b), c', 'ANALYZE a c'],
    ['REINDEX (VERBOSE) TABLE CONCURRENTLY a', 'REINDEX TABLE a'],
    ['LISTEN a', 'LISTEN a'],
    ["NOTIFY a, 'b'", 'NOTIFY a'],
    ['DECLARE _django_curs_1 NO SCROLL CURSOR WITH HOLD FOR SELECT * FROM a', 'DECLARE CURSOR SELECT a'],
    ['FETCH FORWARD 100 FROM _django_curs_1', 'FETCH'],
    ['CLOSE _django_curs_1', 'CLOSE'],
    ['PREPARE p (int, text) AS SELECT * FROM a', 'PREPARE SELECT a'],
    ["PREPARE TRANSACTION 'x'", 'PREPARE TRANSACTION'],
    ["COMMIT PREPARED 'x'", 'COMMIT PREPARED'],
    ['EXECUTE p (1)', 'EXECUTE p'],
    ['EXPLAIN (ANALYZE, FORMAT JSON) UPDATE a SET b = 1', 'EXPLAIN UPDATE a'],
    ['LOCK TABLE a, b IN SHARE MODE', 'LOCK TABLE a b'],
    ['SET LOCAL statement_timeout = 5', 'SET statement_timeout'],
    ['SET app.tenant = 5', 'SET app.tenant'],
    ['SHOW search_path', 'SHOW search_path'],
    ['RESET ALL', 'RESET ALL'],
    ['DISCARD ALL', 'DISCARD ALL'],
    ['SELECT', 'SELECT'],
  ]);
});

describe('summaries, MySQL only', () => {
  table('mysql', [
    ['SELECT * FROM `a b`.`c` x FORCE INDEX (i, j), d PARTITION (p0) STRAIGHT_JOIN e', 'SELECT `a b`.`c` d e'],
    ['SELECT STRAIGHT_JOIN a FROM b', 'SELECT b'],
    ["SELECT a FROM b INTO OUTFILE 'x'", 'SELECT b'],
    ['INSERT IGNORE a SET b = 1, c = 2', 'INSERT a'],
    ['INSERT INTO a SELECT * FROM b ON DUPLICATE KEY UPDATE c = 1, d = 2', 'INSERT a SELECT b'],
    ['REPLACE INTO a VALUES (1)', 'REPLACE a'],
    ['UPDATE a JOIN b ON a.x = b.x SET a.c = 1, b.d = 2', 'UPDATE a b'],
    ['UPDATE LOW_PRIORITY a, b SET a.c = 1', 'UPDATE a b'],
    ['DELETE QUICK a, b FROM a JOIN b ON a.x = b.x', 'DELETE a b'],
    ['CREATE DEFINER=`root`@`localhost` PROCEDURE p() SELECT * FROM a', 'CREATE PROCEDURE p'],
    ['CREATE TABLE a SELECT * FROM b', 'CREATE TABLE a SELECT b'],
    ["CREATE USER 'joe'@'%' IDENTIFIED BY 'x'", 'CREATE USER'],
    ["LOAD DATA LOCAL INFILE 'x' INTO TABLE a FIELDS TERMINATED BY ','", 'LOAD a'],
    ['LOCK TABLES a READ, b WRITE', 'LOCK TABLES a b'],
    ['UNLOCK TABLES', 'UNLOCK TABLES'],
    ['OPTIMIZE NO_WRITE_TO_BINLOG TABLE a, b', 'OPTIMIZE TABLE a b'],
    ['RENAME TABLE a TO b', 'RENAME TABLE a'],
    ['SHOW FULL COLUMNS FROM `a` LIKE ?', 'SHOW FULL COLUMNS `a`'],
    ['SHOW CREATE TABLE s.a', 'SHOW CREATE TABLE s.a'],
    ["SHOW VARIABLES LIKE 'x'", 'SHOW VARIABLES'],
    ['SET NAMES utf8mb4', 'SET NAMES'],
    ['SET SESSION sql_mode = ?', 'SET sql_mode'],
    ['SET @a = 1, @b = 2', 'SET @a'],
    ['USE a', 'USE a'],
    ["XA START 'x'", 'XA START'],
    ['EXPLAIN FORMAT=JSON SELECT * FROM a', 'EXPLAIN SELECT a'],
    ['DESC a', 'DESC a'],
    ["PREPARE p FROM 'SELECT 1'", 'PREPARE'],
    [
      '/*!50003 CREATE*/ /*!50017 DEFINER=`a`@`b`*/ /*!50003 TRIGGER t BEFORE INSERT ON c FOR EACH ROW SET d = 1 */',
      'CREATE TRIGGER t',
    ],
    ['KILL QUERY 5', 'KILL'],
    ['FLUSH PRIVILEGES', 'FLUSH PRIVILEGES'],
  ]);
});

describe('what else is said of a statement', () => {
  const of = (text: string, dialect: SqlDialect = 'postgresql') => {
    const { operation, collection, storedProcedure } = analyseOne(analyserOf(dialect), text);
    return [operation, collection, storedProcedure];
  };

  it('has a collection when there is exactly one', () => {
    assert.deepEqual(of('select * from "T"'), ['select', '"T"', '']);
    assert.deepEqual(of('SELECT * FROM a, b'), ['SELECT', '', '']);
    assert.deepEqual(of('SELECT * FROM a JOIN a b ON true'), ['SELECT', '', '']);
    assert.deepEqual(of('WITH a AS (SELECT * FROM b) SELECT * FROM a'), ['SELECT', 'b', '']);
    assert.deepEqual(of('CREATE TABLE a (b int)'), ['CREATE TABLE', 'a', '']);
    assert.deepEqual(of('CREATE INDEX a ON b (c)'), ['CREATE INDEX', '', '']);
    assert.deepEqual(of('SET a = 1'), ['SET', '', '']);
  });

  it('has a stored procedure for CALL', () => {
    assert.deepEqual(of('CALL s.p(1)'), ['CALL', '', 's.p']);
    assert.deepEqual(of('call `p`', 'mysql'), ['call', '', '`p`']);
    assert.deepEqual(of('EXECUTE p'), ['EXECUTE', '', '']);
  });

  it('stays within 255 characters, at the end of a part', () => {
    const names = Array.from({ length: 60 }, (_, index) => `table_${index}`);
    const { summary } = analyseOne(analyserOf('postgresql'), `SELECT * FROM ${names.join(', ')}`);
    assert.ok(summary.length <= 255 && summary.length > 240);
    assert.ok(names.includes(summary.split(' ').at(-1)!));
  });

  it('bears any depth', () => {
    const deep = analyseOne(
      analyserOf('postgresql'),
      `SELECT a FROM b WHERE ${'('.repeat(5000)}SELECT 1${')'.repeat(5000)} UNION SELECT 1 FROM c`,
    );
    assert.equal(deep.summary, 'SELECT b c');
  });
});
