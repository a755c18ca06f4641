"""Reads a result row by row, from the server that libpq's environment names. Argument: the statement."""

import sys

import psycopg

with psycopg.connect(autocommit=True) as connection, connection.cursor() as cursor:
    print(sum(1 for _ in cursor.stream(sys.argv[1], size=1)))
