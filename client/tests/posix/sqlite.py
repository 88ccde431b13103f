"""Two processes write to one SQLite database with a write-ahead log, whose index they share through mapped memory."""

import multiprocessing
import sqlite3
import sys

ROWS = 100


def connect(path):
    # Isolation level None: each statement is a transaction, as it is written here.
    connection = sqlite3.connect(path, timeout=120, isolation_level=None)
    mode = connection.execute("PRAGMA journal_mode=WAL").fetchone()[0]
    assert mode == "wal", mode
    return connection


def write(path, who):
    connection = connect(path)
    for n in range(ROWS):
        connection.execute("INSERT INTO rows VALUES (?, ?, ?)", (who, n, "x" * (n * 37 % 5000)))
        if n % 20 == 0:
            connection.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchall()
    connection.close()


def main(path):
    first = connect(path)
    first.execute("CREATE TABLE rows (who INTEGER, n INTEGER, text TEXT)")
    writers = [multiprocessing.Process(target=write, args=(path, who)) for who in range(2)]
    for writer in writers:
        writer.start()
    for writer in writers:
        writer.join()
        assert writer.exitcode == 0, writer.exitcode
    assert first.execute("PRAGMA integrity_check").fetchall() == [("ok",)]
    counts = first.execute("SELECT who, count(DISTINCT n) FROM rows GROUP BY who ORDER BY who").fetchall()
    assert counts == [(0, ROWS), (1, ROWS)], counts


main(sys.argv[1])
