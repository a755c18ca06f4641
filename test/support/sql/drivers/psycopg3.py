"""PostgreSQL by psycopg 3, its binary build: libpq with an OpenSSL of its own."""

import threading
import time

import psycopg
from common import BLOB, fails, main


def connect(database, s, **more):
    return psycopg.connect(
        host=s["host"], port=s["port"], user=s["user"], password=s["password"], dbname=database, gssencmode="disable",
        sslmode="verify-full" if s["tls"] else "disable", sslrootcert=s["ca"],
        **({"sslnegotiation": "direct"} if s.get("direct") else {}), **{"autocommit": True, **more},
    )


def connected(work, **more):
    def run(database, settings):
        with connect(database, settings, **more) as connection:
            work(connection)

    return run


def plain(c):
    c.execute("CREATE TABLE item (id int PRIMARY KEY, name text)")
    c.execute("INSERT INTO item VALUES (1, 'one'), (2, 'it''s two'), (3, 'three')")
    assert len(c.execute("SELECT id, name FROM item WHERE name = 'it''s two'").fetchall()) == 1
    c.execute("UPDATE item SET name = 'changed' WHERE id > 1")
    c.execute("DELETE FROM item WHERE id = 3")
    c.execute("")
    c.execute("SELECT count(*) FROM item")


def prepared(c):
    c.execute("CREATE TABLE item (id int PRIMARY KEY, name text)")
    for number in range(10):
        c.execute("INSERT INTO item VALUES (%s, %s)", (number, f"n{number}"), prepare=True)
    for number in range(10):  # prepared by itself after five times
        c.execute("SELECT name FROM item WHERE id >= %s", (number,))


def errors(c):
    c.execute("CREATE TABLE item (id int PRIMARY KEY)")
    fails(lambda: c.execute("SELECT nope FROM nowhere"), psycopg.Error)
    fails(lambda: c.execute("SELEC 1"), psycopg.Error)
    fails(lambda: c.execute("INSERT INTO item VALUES (%s), (%s)", (1, 1)), psycopg.Error)
    fails(lambda: c.execute("SELECT 1 / %s::int", (0,)), psycopg.Error)
    c.execute("SELECT 1 AS fine")


def transaction(c):
    c.execute("CREATE TABLE item (id int PRIMARY KEY)")
    c.commit()
    c.execute("INSERT INTO item VALUES (%s)", (1,))
    c.commit()
    c.execute("INSERT INTO item VALUES (%s)", (2,))
    c.rollback()
    with c.transaction():
        with c.transaction("inner"):
            c.execute("INSERT INTO item VALUES (%s)", (3,))
    c.execute("SELECT count(*) FROM item")


def large(c):
    text = "SELECT g, repeat('x', 100) AS filler FROM generate_series(1, 20000) g"
    assert len(c.execute(text).fetchall()) == 20_000
    assert len(c.execute(text, binary=True).fetchall()) == 20_000
    # Row by row.
    assert sum(1 for _ in c.cursor().stream(text)) == 20_000


def binary(c):
    c.execute("CREATE TABLE blobs (data bytea)")
    c.execute("INSERT INTO blobs VALUES (%b)", (BLOB,))
    assert c.execute("SELECT data FROM blobs", binary=True).fetchone()[0] == BLOB


def nulls(c):
    c.execute("CREATE TABLE item (a int, b text)")
    c.execute("INSERT INTO item VALUES (%s, %s)", (None, None))
    c.execute("SELECT a, b, NULL FROM item").fetchall()


def cancel(c):
    timer = threading.Timer(0.3, c.cancel_safe)
    timer.start()
    fails(lambda: c.execute("SELECT pg_sleep(20)"), psycopg.errors.QueryCanceled)
    timer.join()
    c.execute("SELECT 1 AS after_cancel")


def pool(database, settings):
    connections = [connect(database, settings) for _ in range(4)]

    def work(connection):
        for number in range(10):
            connection.execute("SELECT %s::int AS pooled", (number,))

    threads = [threading.Thread(target=work, args=(connection,)) for connection in connections]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for connection in connections:
        connection.close()


def pipeline(c):
    c.execute("CREATE TABLE item (id int PRIMARY KEY)")
    with c.pipeline():
        for number in range(50):
            c.execute("INSERT INTO item VALUES (%s)", (number,))
    with c.pipeline() as p:
        cursor = c.execute("SELECT count(*) FROM item")
        p.sync()
        assert cursor.fetchone()[0] == 50
        c.execute("SELECT 1 AS again")

    def broken():
        with c.pipeline():
            c.execute("INSERT INTO item VALUES (%s)", (100,))
            c.execute("INSERT INTO item VALUES (%s)", (1,))  # fails; the rest is skipped
            c.execute("INSERT INTO item VALUES (%s)", (101,))

    fails(broken, psycopg.Error)
    with c.cursor() as cursor:
        cursor.executemany("INSERT INTO item VALUES (%s)", [(number,) for number in range(200, 240)])
    c.execute("SELECT count(*) FROM item")


def copy(c):
    c.execute("CREATE TABLE item (id int, name text)")
    with c.cursor() as cursor:
        with cursor.copy("COPY item FROM STDIN") as into:
            for number in range(1000):
                into.write_row((number, f"name {number}"))
        with cursor.copy("COPY item TO STDOUT") as out:
            assert sum(1 for _ in out.rows()) == 1000
        with cursor.copy("COPY item TO STDOUT (FORMAT binary)") as out:
            assert sum(len(block) for block in out) > 1000

        def given_up():
            with cursor.copy("COPY item FROM STDIN") as into:
                into.write_row((1, "x"))
                raise ValueError("given up")

        fails(given_up)
    c.execute("SELECT count(*) FROM item")


def cursor(c):
    with c.transaction():
        with c.cursor(name="served") as served:
            served.itersize = 7
            served.execute("SELECT g FROM generate_series(1, %s) g", (20,))
            assert sum(1 for _ in served) == 20
    with c.transaction():
        with c.cursor(name="scrolled", scrollable=True) as served:
            served.execute("SELECT g FROM generate_series(1, 20) g")
            served.fetchmany(5)
            served.scroll(-3)
            served.fetchmany(2)


def multi(c):
    c.execute("SELECT 1 AS a; SELECT g AS b FROM generate_series(1, 3) g; CREATE TABLE made (id int)")
    fails(lambda: c.execute("SELECT 1 AS good; SELECT nope AS bad; SELECT 3 AS never"), psycopg.Error)


def notify(c):
    c.execute("LISTEN news")
    c.execute("NOTIFY news, 'something'")
    c.execute("DO $$ BEGIN RAISE NOTICE 'hello'; END $$")
    assert sum(1 for _ in c.notifies(timeout=0.2)) == 1
    time.sleep(0.01)


def newest(c):
    """Protocol 3.2 where the server has it; an older one answers with NegotiateProtocolVersion."""
    c.execute("SELECT %s::int AS newest", (1,))
    cancel(c)


main({
    "newest": connected(newest, max_protocol_version="latest"),
    **{work.__name__: connected(work) for work in (plain, prepared, errors, large, binary, nulls, cancel, pipeline, copy, cursor, multi, notify)},
    "transaction": connected(transaction, autocommit=False),
    "pool": pool,
})
