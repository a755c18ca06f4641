"""What psycopg 3 and asyncpg send beyond single queries: pipelines, COPY, cursors, portals that are run in parts, errors among them."""

import asyncio
import sys

import asyncpg
import psycopg


def fails(work, kind):
    try:
        work()
    except kind:
        return
    raise AssertionError(f"no {kind}")


def with_psycopg(conninfo):
    with psycopg.connect(conninfo, autocommit=True) as c:
        c.execute("DROP TABLE IF EXISTS item; CREATE TABLE item (id int PRIMARY KEY, name text)")
        c.cursor().executemany("INSERT INTO item VALUES (%s, %s)", [(n, f"n{n}") for n in range(20)])
        assert len(c.execute("SELECT * FROM item WHERE id < %s", (7,)).fetchall()) == 7

        def pipeline():
            with c.pipeline():
                c.execute("INSERT INTO item VALUES (%s, %s)", (50, "fifty"))
                c.execute("INSERT INTO item VALUES (%s, %s)", (1, "is there"))
                # Not run, after an error in the same pipeline.
                c.execute("SELECT 1")
                c.execute("SELECT 2")

        fails(pipeline, psycopg.errors.UniqueViolation)

        def copy(rows):
            with c.cursor().copy("COPY item FROM STDIN") as to:
                for row in rows:
                    to.write_row(row)

        copy((n, "copied") for n in range(100, 130))
        with c.cursor().copy("COPY (SELECT * FROM item ORDER BY id) TO STDOUT") as out:
            assert len(list(out.rows())) == 50
        fails(lambda: copy([(100, "is there")]), psycopg.errors.UniqueViolation)
        with c.transaction(), c.cursor(name="cur") as cursor:
            cursor.execute("SELECT * FROM item ORDER BY id")
            assert len(cursor.fetchall()) == 50
        fails(lambda: c.execute("SELEC 1"), psycopg.errors.SyntaxError)
        c.execute("DO $$ BEGIN RAISE NOTICE 'hello %', 1; END $$")
        c.execute("LISTEN chan")
        c.execute("NOTIFY chan, 'x'")
        c.execute("SET search_path TO pg_catalog")
        c.execute("SELECT 3")
        c.execute("RESET ALL")
        c.execute("SELECT repeat('x', 30000)")


async def with_asyncpg(host, port, user, password):
    c = await asyncpg.connect(host=host, port=port, user=user, password=password, database="postgres", ssl=False)
    async with c.transaction():
        seen = 0
        async for _ in c.cursor("SELECT * FROM item ORDER BY id", prefetch=20):
            seen += 1
        assert seen == 50
    for number in (1, 2, 3):
        await c.fetch("SELECT name FROM item WHERE id = $1", number)
    await c.executemany("UPDATE item SET name = $1 WHERE id = $2", [(f"new {n}", n) for n in range(10)])
    await c.copy_records_to_table("item", records=[(n, "binary") for n in range(200, 210)])
    try:
        await c.fetch("SELECT 1 / $1::int", 0)
        raise AssertionError("no error")
    except asyncpg.DivisionByZeroError:
        pass
    await c.close()


host, port, user, password = sys.argv[1:]
with_psycopg(f"host={host} port={port} user={user} password={password} dbname=postgres sslmode=disable gssencmode=disable")
asyncio.run(with_asyncpg(host, int(port), user, password))
