"""MySQL and MariaDB by PyMySQL: the text protocol throughout, parameters put into the text by the client."""

import os
import tempfile
import threading

import pymysql
from common import BLOB, fails, main
from pymysql.constants import CLIENT


def connect(database, s, **more):
    return pymysql.connect(
        host=s["host"], port=s["port"], user=s["user"], password=s["password"], database=database, charset="utf8mb4",
        **({"ssl": {"ca": s["ca"], "check_hostname": True}} if s["tls"] else {"ssl_disabled": True}),
        **{"autocommit": True, **more},
    )


def connected(work, **more):
    def run(database, settings):
        connection = connect(database, settings, **more)
        try:
            work(connection, database, settings)
        finally:
            connection.close()

    return run


def ask(c, text, values=None):
    with c.cursor() as cursor:
        cursor.execute(text, values)
        rows = list(cursor.fetchall())
        while cursor.nextset():
            rows += cursor.fetchall()
        return rows


def plain(c, *_):
    ask(c, "CREATE TABLE item (id int PRIMARY KEY, name varchar(50))")
    ask(c, "INSERT INTO item VALUES (1, 'one'), (2, 'it''s two'), (3, 'three')")
    assert len(ask(c, 'SELECT id, name FROM item WHERE name = "it\'s two"')) == 1
    ask(c, "UPDATE item SET name = 'changed' WHERE id > 1")
    ask(c, "DELETE FROM item WHERE id = 3")
    ask(c, "SELECT count(*) FROM item")


def prepared(c, *_):
    ask(c, "CREATE TABLE item (id int PRIMARY KEY, name varchar(50))")
    for number in range(10):
        ask(c, "INSERT INTO item VALUES (%s, %s)", (number, f"n'{number}"))
    with c.cursor() as cursor:  # joined into one statement
        cursor.executemany("INSERT INTO item VALUES (%s, %s)", [(number, "many") for number in range(100, 200)])
    assert len(ask(c, "SELECT name FROM item WHERE id >= %s", (100,))) == 100


def errors(c, *_):
    ask(c, "CREATE TABLE item (id int PRIMARY KEY)")
    fails(lambda: ask(c, "SELECT nope FROM nowhere"), pymysql.Error)
    fails(lambda: ask(c, "SELEC 1"), pymysql.Error)
    fails(lambda: ask(c, "INSERT INTO item VALUES (1), (1)"), pymysql.Error)
    ask(c, "SELECT 1 AS fine")


def transaction(c, *_):
    ask(c, "CREATE TABLE item (id int PRIMARY KEY)")
    c.begin()
    ask(c, "INSERT INTO item VALUES (1)")
    c.commit()
    c.begin()
    ask(c, "INSERT INTO item VALUES (2)")
    c.rollback()
    ask(c, "SELECT count(*) FROM item")


def large(c, _database, s):
    count = min(s.get("rows", 20_000), 10_000)
    text = f"""WITH RECURSIVE seq (n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM seq WHERE n < 100)
        SELECT a.n, repeat('x', 100) AS filler FROM seq a, seq b LIMIT {count}"""
    assert len(ask(c, text)) == count
    with c.cursor(pymysql.cursors.SSCursor) as cursor:
        cursor.execute(text)
        assert sum(1 for _ in cursor) == count


def binary(c, *_):
    ask(c, "CREATE TABLE blobs (data longblob)")
    ask(c, "INSERT INTO blobs VALUES (_binary %s)", (BLOB,))
    assert ask(c, "SELECT data FROM blobs")[0][0] == BLOB


def nulls(c, *_):
    ask(c, "CREATE TABLE item (a int, b varchar(50))")
    ask(c, "INSERT INTO item VALUES (%s, %s)", (None, None))
    ask(c, "SELECT a, b, NULL FROM item")


def cancel(c, database, s):
    def kill():
        other = connect(database, s)
        ask(other, f"KILL QUERY {c.thread_id()}")
        other.close()

    timer = threading.Timer(0.3, kill)
    timer.start()
    try:
        ask(c, "SELECT sleep(20) FROM (SELECT 1 AS one UNION SELECT 2) AS two")
    except pymysql.Error:
        pass
    timer.join()
    ask(c, "SELECT 1 AS after_cancel")


def pool(database, s):
    connections = [connect(database, s) for _ in range(4)]

    def work(connection):
        for number in range(10):
            ask(connection, "SELECT %s AS pooled", (number,))

    threads = [threading.Thread(target=work, args=(connection,)) for connection in connections]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for connection in connections:
        connection.close()


def multi(c, *_):
    assert len(ask(c, "SELECT 1 AS a; SELECT 2 AS b UNION SELECT 3; CREATE TABLE made (id int)")) == 3
    fails(lambda: ask(c, "SELECT 1 AS good; SELECT nope AS bad; SELECT 3 AS never"), pymysql.Error)


def call(c, *_):
    ask(c, "CREATE PROCEDURE twice (IN n int) BEGIN SELECT n AS once; SELECT n * 2 AS doubled; END")
    ask(c, "CALL twice(21)")
    ask(c, "SELECT 1 AS after_call")


def infile(c, *_):
    ask(c, "CREATE TABLE item (id int, name varchar(50))")
    with tempfile.NamedTemporaryFile("w", delete=False) as lines:
        lines.writelines(f"{number}\tname {number}\n" for number in range(1000))
    ask(c, f"LOAD DATA LOCAL INFILE '{lines.name}' INTO TABLE item")
    os.unlink(lines.name)
    assert ask(c, "SELECT count(*) FROM item")[0][0] == 1000


def session(c, database, _s):
    c.ping()
    c.select_db(database.replace("_session", "_plain"))
    ask(c, "SELECT count(*) AS elsewhere FROM item")
    c.select_db(database)
    ask(c, "SELECT 1 AS after_change")


main({
    **{work.__name__: connected(work) for work in (plain, prepared, errors, transaction, large, binary, nulls, cancel, call, session)},
    "multi": connected(multi, client_flag=CLIENT.MULTI_STATEMENTS),
    "infile": connected(infile, local_infile=True),
    "pool": pool,
})
