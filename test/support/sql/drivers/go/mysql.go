package main

import (
	"bytes"
	"context"
	"database/sql"
	"errors"
	"fmt"
	"io"
	"strings"
	"sync"
	"time"

	"github.com/go-sql-driver/mysql"
)

func mysqlOpen(database string, s settings, adapt ...func(*mysql.Config)) (*sql.DB, error) {
	config := mysql.NewConfig()
	config.User, config.Passwd, config.Net, config.DBName = s.User, s.Password, "tcp", database
	config.Addr = fmt.Sprintf("%s:%d", s.Host, s.Port)
	secure, err := tlsConfig(s)
	if err != nil {
		return nil, err
	}
	config.TLS = secure
	for _, change := range adapt {
		change(config)
	}
	connector, err := mysql.NewConnector(config)
	if err != nil {
		return nil, err
	}
	return sql.OpenDB(connector), nil
}

// Runs on one connection.
func mysqlConnected(work func(ctx context.Context, c *sql.Conn) error, adapt ...func(*mysql.Config)) feature {
	return func(database string, s settings) error {
		ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
		defer cancel()
		db, err := mysqlOpen(database, s, adapt...)
		if err != nil {
			return err
		}
		defer func() { _ = db.Close() }()
		c, err := db.Conn(ctx)
		if err != nil {
			return err
		}
		defer func() { _ = c.Close() }()
		return work(ctx, c)
	}
}

func exec(ctx context.Context, c *sql.Conn, text string, values ...any) func() error {
	return func() error {
		_, err := c.ExecContext(ctx, text, values...)
		return err
	}
}

func execFails(ctx context.Context, c *sql.Conn, text string, values ...any) func() error {
	return func() error { return mustFail(exec(ctx, c, text, values...)()) }
}

func rows(ctx context.Context, c *sql.Conn, want int, text string, values ...any) func() error {
	return func() error {
		found, err := c.QueryContext(ctx, text, values...)
		if err != nil {
			return err
		}
		defer func() { _ = found.Close() }()
		count := 0
		for more := true; more; more = found.NextResultSet() {
			for found.Next() {
				count++
			}
		}
		if found.Err() == nil && count != want {
			return fmt.Errorf("%d rows instead of %d", count, want)
		}
		return found.Err()
	}
}

const mysqlLarge = `WITH RECURSIVE seq (n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM seq WHERE n < 100)
	SELECT a.n, repeat('x', 100) AS filler FROM seq a, seq b LIMIT 10000`

var mysqlFeatures = map[string]feature{
	"plain": mysqlConnected(func(ctx context.Context, c *sql.Conn) error {
		return steps(
			exec(ctx, c, "CREATE TABLE item (id int PRIMARY KEY, name varchar(50))"),
			exec(ctx, c, "INSERT INTO item VALUES (1, 'one'), (2, 'it\\'s two'), (3, 'three')"),
			rows(ctx, c, 1, `SELECT id, name FROM item WHERE name = "it's two"`),
			exec(ctx, c, "UPDATE item SET name = 'changed' WHERE id > 1"),
			exec(ctx, c, "DELETE FROM item WHERE id = 3"),
			rows(ctx, c, 1, "SELECT count(*) FROM item"),
		)
	}),
	"prepared": mysqlConnected(func(ctx context.Context, c *sql.Conn) error {
		if err := exec(ctx, c, "CREATE TABLE item (id int PRIMARY KEY, name varchar(50))")(); err != nil {
			return err
		}
		put, err := c.PrepareContext(ctx, "INSERT INTO item VALUES (?, ?)")
		if err != nil {
			return err
		}
		defer func() { _ = put.Close() }()
		for id := range 10 {
			if _, err := put.ExecContext(ctx, id, fmt.Sprintf("n%d", id)); err != nil {
				return err
			}
			if err := rows(ctx, c, id+1, "SELECT name FROM item WHERE id <= ?", id)(); err != nil {
				return err
			}
		}
		return nil
	}),
	"errors": mysqlConnected(func(ctx context.Context, c *sql.Conn) error {
		return steps(
			exec(ctx, c, "CREATE TABLE item (id int PRIMARY KEY)"),
			execFails(ctx, c, "SELECT nope FROM nowhere"),
			execFails(ctx, c, "SELEC 1"),
			exec(ctx, c, "INSERT INTO item VALUES (?)", 1),
			execFails(ctx, c, "INSERT INTO item VALUES (?)", 1),
			rows(ctx, c, 1, "SELECT 1 AS fine"),
		)
	}),
	"transaction": mysqlConnected(func(ctx context.Context, c *sql.Conn) error {
		if err := exec(ctx, c, "CREATE TABLE item (id int PRIMARY KEY)")(); err != nil {
			return err
		}
		for id, commit := range []bool{true, false} {
			tx, err := c.BeginTx(ctx, nil)
			if err != nil {
				return err
			}
			if _, err := tx.ExecContext(ctx, "INSERT INTO item VALUES (?)", id); err != nil {
				return err
			}
			if commit {
				err = tx.Commit()
			} else {
				err = tx.Rollback()
			}
			if err != nil {
				return err
			}
		}
		return rows(ctx, c, 1, "SELECT count(*) FROM item")()
	}),
	"large": mysqlConnected(func(ctx context.Context, c *sql.Conn) error {
		return steps(rows(ctx, c, 10_000, mysqlLarge), rows(ctx, c, 10_000, mysqlLarge+" OFFSET ?", 0))
	}),
	"binary": mysqlConnected(func(ctx context.Context, c *sql.Conn) error {
		return steps(
			exec(ctx, c, "CREATE TABLE blobs (data longblob)"),
			exec(ctx, c, "INSERT INTO blobs VALUES (?)", blob()),
			func() error {
				var data []byte
				if err := c.QueryRowContext(ctx, "SELECT data FROM blobs WHERE length(data) > ?", 1).Scan(&data); err != nil {
					return err
				}
				if !bytes.Equal(data, blob()) {
					return errors.New("other bytes")
				}
				return nil
			},
		)
	}),
	// A value above a quarter of the longest packet goes in COM_STMT_SEND_LONG_DATA.
	"longdata": mysqlConnected(func(ctx context.Context, c *sql.Conn) error {
		return steps(
			exec(ctx, c, "CREATE TABLE blobs (data longblob, more longblob)"),
			exec(ctx, c, "INSERT INTO blobs VALUES (?, ?)", blob(), blob()),
			rows(ctx, c, 1, "SELECT length(data) FROM blobs"),
		)
	}, func(config *mysql.Config) { config.MaxAllowedPacket = 64 << 10 }),
	"nulls": mysqlConnected(func(ctx context.Context, c *sql.Conn) error {
		return steps(
			exec(ctx, c, "CREATE TABLE item (a int, b varchar(50))"),
			exec(ctx, c, "INSERT INTO item VALUES (?, ?)", nil, nil),
			rows(ctx, c, 1, "SELECT a, b, NULL FROM item"),
			rows(ctx, c, 1, "SELECT a, b, NULL FROM item WHERE a IS NULL OR a = ?", 1),
		)
	}),
	// The driver closes the connection; the server notices by itself or at the end.
	"cancel": mysqlConnected(func(ctx context.Context, c *sql.Conn) error {
		short, cancel := context.WithTimeout(ctx, 300*time.Millisecond)
		defer cancel()
		return mustFail(rows(short, c, 2, "SELECT sleep(1) FROM (SELECT 1 AS one UNION SELECT 2) AS two")())
	}),
	"pool": func(database string, s settings) error {
		ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
		defer cancel()
		db, err := mysqlOpen(database, s)
		if err != nil {
			return err
		}
		defer func() { _ = db.Close() }()
		db.SetMaxOpenConns(4)
		var group sync.WaitGroup
		failures := make([]error, 40)
		for index := range 40 {
			group.Go(func() { _, failures[index] = db.ExecContext(ctx, "SELECT ? AS pooled", index) })
		}
		group.Wait()
		return errors.Join(failures...)
	},
	"multi": mysqlConnected(func(ctx context.Context, c *sql.Conn) error {
		return steps(
			rows(ctx, c, 3, "SELECT 1 AS a; SELECT 2 AS b UNION SELECT 3; CREATE TABLE made (id int)"),
			execFails(ctx, c, "SELECT 1 AS good; SELECT nope AS bad; SELECT 3 AS never"),
		)
	}, func(config *mysql.Config) { config.MultiStatements = true }),
	"call": mysqlConnected(func(ctx context.Context, c *sql.Conn) error {
		return steps(
			exec(ctx, c, "CREATE PROCEDURE twice (IN n int) BEGIN SELECT n AS once; SELECT n * 2 AS doubled; END"),
			rows(ctx, c, 2, "CALL twice(21)"),
			rows(ctx, c, 2, "CALL twice(?)", 21),
		)
	}),
	"infile": mysqlConnected(func(ctx context.Context, c *sql.Conn) error {
		mysql.RegisterReaderHandler("lines", func() io.Reader {
			var text strings.Builder
			for id := range 1000 {
				fmt.Fprintf(&text, "%d\tname %d\n", id, id)
			}
			return strings.NewReader(text.String())
		})
		return steps(
			exec(ctx, c, "CREATE TABLE item (id int, name varchar(50))"),
			exec(ctx, c, "LOAD DATA LOCAL INFILE 'Reader::lines' INTO TABLE item"),
			rows(ctx, c, 1000, "SELECT id FROM item"),
		)
	}),
	"compress": mysqlConnected(func(ctx context.Context, c *sql.Conn) error {
		return steps(
			rows(ctx, c, 10_000, mysqlLarge),
			exec(ctx, c, "SELECT ? AS squeezed", strings.Repeat("x", 50_000)),
			rows(ctx, c, 1, "SELECT 1 AS small"),
		)
	}, func(config *mysql.Config) { _ = config.Apply(mysql.EnableCompression(true)) }),
}
