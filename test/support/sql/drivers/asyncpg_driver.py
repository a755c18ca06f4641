"""PostgreSQL by asyncpg: the extended protocol throughout, TLS by Python's ssl."""

import asyncio
import ssl

import asyncpg
from common import BLOB, main


def options(database, s):
    context = ssl.create_default_context(cafile=s["ca"]) if s["tls"] else False
    if s.get("direct"):
        context.set_alpn_protocols(["postgresql"])
    return dict(
        host=s["host"], port=s["port"], user=s["user"], password=s["password"], database=database, ssl=context,
        **({"direct_tls": True} if s.get("direct") else {}),
    )


def connected(work):
    async def run(database, settings):
        connection = await asyncpg.connect(**options(database, settings))
        try:
            await work(connection)
        finally:
            await connection.close()

    return run


async def fails(awaitable, kind=asyncpg.PostgresError):
    try:
        answer = await awaitable
    except kind as error:
        return error
    raise AssertionError(f"did not fail: {answer!r}")


async def plain(c):
    await c.execute("CREATE TABLE item (id int PRIMARY KEY, name text)")
    await c.execute("INSERT INTO item VALUES (1, 'one'), (2, 'it''s two'), (3, 'three')")
    assert len(await c.fetch("SELECT id, name FROM item WHERE name = 'it''s two'")) == 1
    await c.execute("UPDATE item SET name = 'changed' WHERE id > 1")
    await c.execute("DELETE FROM item WHERE id = 3")
    await c.fetchval("SELECT count(*) FROM item")


async def prepared(c):
    await c.execute("CREATE TABLE item (id int PRIMARY KEY, name text)")
    put = await c.prepare("INSERT INTO item VALUES ($1, $2)")
    for number in range(10):
        await put.fetch(number, f"n{number}")
    for number in range(10):
        assert len(await c.fetch("SELECT name FROM item WHERE id >= $1", number)) == 10 - number


async def errors(c):
    await c.execute("CREATE TABLE item (id int PRIMARY KEY)")
    await fails(c.execute("SELECT nope FROM nowhere"))
    await fails(c.fetch("SELEC 1"))
    await fails(c.execute("INSERT INTO item VALUES (1), (1)"))
    await fails(c.fetch("SELECT 1 / $1::int", 0))
    await c.fetchval("SELECT 1 AS fine")


async def transaction(c):
    await c.execute("CREATE TABLE item (id int PRIMARY KEY)")
    async with c.transaction():
        await c.execute("INSERT INTO item VALUES ($1)", 1)
        async with c.transaction():
            await c.execute("INSERT INTO item VALUES ($1)", 2)
    undone = c.transaction()
    await undone.start()
    await c.execute("INSERT INTO item VALUES ($1)", 3)
    await undone.rollback()
    assert await c.fetchval("SELECT count(*) FROM item") == 2


async def large(c):
    rows = await c.fetch("SELECT g, repeat('x', 100) AS filler FROM generate_series(1, 20000) g")
    assert len(rows) == 20_000


async def binary(c):
    await c.execute("CREATE TABLE blobs (data bytea)")
    await c.execute("INSERT INTO blobs VALUES ($1)", BLOB)
    assert await c.fetchval("SELECT data FROM blobs") == BLOB


async def nulls(c):
    await c.execute("CREATE TABLE item (a int, b text)")
    await c.execute("INSERT INTO item VALUES ($1, $2)", None, None)
    await c.fetch("SELECT a, b, NULL FROM item")


async def cancel(c):
    await fails(c.execute("SELECT pg_sleep(20)", timeout=0.3), (asyncio.TimeoutError, TimeoutError))
    await c.fetchval("SELECT 1 AS after_cancel")


async def pool(database, settings):
    async with asyncpg.create_pool(**options(database, settings), min_size=4, max_size=4) as shared:
        await asyncio.gather(*(shared.fetchval("SELECT $1::int AS pooled", number) for number in range(40)))


async def cursor(c):
    async with c.transaction():
        count = 0
        async for _ in c.cursor("SELECT g FROM generate_series(1, $1::int) g", 20, prefetch=7):
            count += 1
        assert count == 20
        partly = await c.cursor("SELECT g AS partly FROM generate_series(1, 20) g")
        await partly.fetch(5)
        await partly.fetch(3)


async def copy(c):
    await c.execute("CREATE TABLE item (id int, name text)")
    await c.copy_records_to_table("item", records=[(number, f"name {number}") for number in range(1000)])
    sink = open("/dev/null", "wb")
    assert await c.copy_from_query("SELECT * FROM item WHERE id < 500", output=sink) == "COPY 500"
    await c.copy_from_table("item", output=sink, format="csv")
    sink.close()


async def pipeline(c):
    await c.execute("CREATE TABLE item (id int PRIMARY KEY)")
    await c.executemany("INSERT INTO item VALUES ($1)", [(number,) for number in range(50)])
    await fails(c.executemany("INSERT INTO item VALUES ($1)", [(60,), (1,), (61,)]))
    await c.fetchval("SELECT count(*) FROM item")


async def multi(c):
    await c.execute("SELECT 1 AS a; SELECT g AS b FROM generate_series(1, 3) g; CREATE TABLE made (id int)")
    await fails(c.execute("SELECT 1 AS good; SELECT nope AS bad; SELECT 3 AS never"))


async def notify(c):
    heard = []
    await c.add_listener("news", lambda *_: heard.append(1))
    await c.execute("NOTIFY news, 'something'")
    await c.execute("SELECT 1 AS after_notice")
    assert heard == [1]


main({
    **{work.__name__: connected(work) for work in (plain, prepared, errors, transaction, large, binary, nulls, cancel, cursor, copy, pipeline, multi, notify)},
    "pool": pool,
})
