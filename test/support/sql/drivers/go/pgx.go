package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"strings"
	"sync"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgxpool"
)

func pgxConfig(database string, s settings) (*pgx.ConnConfig, error) {
	config, err := pgx.ParseConfig(fmt.Sprintf("postgres://%s:%s@%s:%d/%s?sslmode=disable", s.User, s.Password, s.Host, s.Port, database))
	if err != nil {
		return nil, err
	}
	config.TLSConfig, err = tlsConfig(s)
	if s.Direct && config.TLSConfig != nil {
		config.SSLNegotiation = "direct"
		config.TLSConfig.NextProtos = []string{"postgresql"}
	}
	return config, err
}

func pgxConnected(work func(ctx context.Context, c *pgx.Conn) error, adapt ...func(*pgx.ConnConfig)) feature {
	return func(database string, s settings) error {
		ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
		defer cancel()
		config, err := pgxConfig(database, s)
		if err != nil {
			return err
		}
		for _, change := range adapt {
			change(config)
		}
		c, err := pgx.ConnectConfig(ctx, config)
		if err != nil {
			return err
		}
		defer func() { _ = c.Close(context.Background()) }()
		return work(ctx, c)
	}
}

func pgxExec(ctx context.Context, c interface {
	Exec(context.Context, string, ...any) (pgconn.CommandTag, error)
}, text string, values ...any) func() error {
	return func() error {
		_, err := c.Exec(ctx, text, values...)
		return err
	}
}

func pgxFails(ctx context.Context, c *pgx.Conn, text string, values ...any) func() error {
	return func() error { return mustFail(pgxExec(ctx, c, text, values...)()) }
}

func pgxRows(ctx context.Context, c *pgx.Conn, want int, text string, values ...any) func() error {
	return func() error {
		rows, err := c.Query(ctx, text, values...)
		if err != nil {
			return err
		}
		count := 0
		for rows.Next() {
			count++
		}
		if rows.Err() == nil && count != want {
			return fmt.Errorf("%d rows instead of %d", count, want)
		}
		return rows.Err()
	}
}

func pgxPlain(ctx context.Context, c *pgx.Conn) error {
	return steps(
		pgxExec(ctx, c, "CREATE TABLE item (id int PRIMARY KEY, name text)"),
		pgxExec(ctx, c, "INSERT INTO item VALUES (1, 'one'), (2, 'it''s two'), (3, 'three')"),
		pgxRows(ctx, c, 1, "SELECT id, name FROM item WHERE name = 'it''s two'"),
		pgxExec(ctx, c, "UPDATE item SET name = 'changed' WHERE id > 1"),
		pgxExec(ctx, c, "DELETE FROM item WHERE id = 3"),
		pgxExec(ctx, c, ""),
		pgxRows(ctx, c, 1, "SELECT count(*) FROM item"),
	)
}

var pgxFeatures = map[string]feature{
	"plain": pgxConnected(pgxPlain, func(config *pgx.ConnConfig) { config.DefaultQueryExecMode = pgx.QueryExecModeSimpleProtocol }),
	"prepared": pgxConnected(func(ctx context.Context, c *pgx.Conn) error {
		if err := pgxExec(ctx, c, "CREATE TABLE item (id int PRIMARY KEY, name text)")(); err != nil {
			return err
		}
		if _, err := c.Prepare(ctx, "put", "INSERT INTO item VALUES ($1, $2)"); err != nil {
			return err
		}
		for id := range 10 {
			if err := steps(
				pgxExec(ctx, c, "put", id, fmt.Sprintf("n%d", id)),
				pgxRows(ctx, c, id+1, "SELECT name FROM item WHERE id <= $1", id),
			); err != nil {
				return err
			}
		}
		return nil
	}),
	"errors": pgxConnected(func(ctx context.Context, c *pgx.Conn) error {
		return steps(
			pgxExec(ctx, c, "CREATE TABLE item (id int PRIMARY KEY)"),
			pgxFails(ctx, c, "SELECT nope FROM nowhere"),
			pgxFails(ctx, c, "SELEC 1"),
			pgxFails(ctx, c, "INSERT INTO item VALUES ($1), ($1)", 1),
			pgxFails(ctx, c, "SELECT 1 / $1::int", 0),
			pgxRows(ctx, c, 1, "SELECT 1 AS fine"),
		)
	}),
	"transaction": pgxConnected(func(ctx context.Context, c *pgx.Conn) error {
		if err := pgxExec(ctx, c, "CREATE TABLE item (id int PRIMARY KEY)")(); err != nil {
			return err
		}
		for _, commit := range []bool{true, false} {
			tx, err := c.Begin(ctx)
			if err != nil {
				return err
			}
			if err := pgxExec(ctx, tx, "INSERT INTO item VALUES ($1)", 1)(); err != nil && commit {
				return err
			}
			if commit {
				err = tx.Commit(ctx)
			} else {
				err = tx.Rollback(ctx)
			}
			if err != nil {
				return err
			}
		}
		return pgxRows(ctx, c, 1, "SELECT id FROM item")()
	}),
	"large": pgxConnected(func(ctx context.Context, c *pgx.Conn) error {
		return pgxRows(ctx, c, 20_000, "SELECT g, repeat('x', 100) AS filler FROM generate_series(1, $1::int) g", 20_000)()
	}),
	"binary": pgxConnected(func(ctx context.Context, c *pgx.Conn) error {
		return steps(
			pgxExec(ctx, c, "CREATE TABLE blobs (data bytea)"),
			pgxExec(ctx, c, "INSERT INTO blobs VALUES ($1)", blob()),
			func() error {
				var data []byte
				if err := c.QueryRow(ctx, "SELECT data FROM blobs").Scan(&data); err != nil {
					return err
				}
				if !bytes.Equal(data, blob()) {
					return errors.New("other bytes")
				}
				return nil
			},
		)
	}),
	"nulls": pgxConnected(func(ctx context.Context, c *pgx.Conn) error {
		return steps(
			pgxExec(ctx, c, "CREATE TABLE item (a int, b text)"),
			pgxExec(ctx, c, "INSERT INTO item VALUES ($1, $2)", nil, nil),
			pgxRows(ctx, c, 1, "SELECT a, b, NULL FROM item"),
		)
	}),
	"cancel": pgxConnected(func(ctx context.Context, c *pgx.Conn) error {
		timer := time.AfterFunc(300*time.Millisecond, func() { _ = c.PgConn().CancelRequest(ctx) })
		defer timer.Stop()
		return steps(
			pgxFails(ctx, c, "SELECT pg_sleep(20)"),
			pgxRows(ctx, c, 1, "SELECT 1 AS after_cancel"),
		)
	}),
	"pool": func(database string, s settings) error {
		ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
		defer cancel()
		config, err := pgxpool.ParseConfig(fmt.Sprintf("postgres://%s:%s@%s:%d/%s?sslmode=disable", s.User, s.Password, s.Host, s.Port, database))
		if err != nil {
			return err
		}
		config.MaxConns = 4
		connection, err := pgxConfig(database, s)
		if err != nil {
			return err
		}
		config.ConnConfig = connection
		pool, err := pgxpool.NewWithConfig(ctx, config)
		if err != nil {
			return err
		}
		defer pool.Close()
		var group sync.WaitGroup
		failures := make([]error, 40)
		for index := range 40 {
			group.Go(func() { failures[index] = pgxExec(ctx, pool, "SELECT $1::int AS pooled", index)() })
		}
		group.Wait()
		return errors.Join(failures...)
	},
	"pipeline": pgxConnected(func(ctx context.Context, c *pgx.Conn) error {
		send := func(ids ...int) error {
			batch := &pgx.Batch{}
			for _, id := range ids {
				batch.Queue("INSERT INTO item VALUES ($1)", id)
			}
			batch.Queue("SELECT count(*) FROM item")
			return c.SendBatch(ctx, batch).Close()
		}
		return steps(
			pgxExec(ctx, c, "CREATE TABLE item (id int PRIMARY KEY)"),
			func() error { return send(1, 2, 3, 4, 5) },
			// The second fails; the rest is skipped.
			func() error { return mustFail(send(6, 1, 7)) },
			pgxRows(ctx, c, 5, "SELECT id FROM item"),
		)
	}),
	"copy": pgxConnected(func(ctx context.Context, c *pgx.Conn) error {
		rows := make([][]any, 1000)
		for index := range rows {
			rows[index] = []any{index, fmt.Sprintf("name %d", index)}
		}
		return steps(
			pgxExec(ctx, c, "CREATE TABLE item (id int, name text)"),
			func() error {
				_, err := c.CopyFrom(ctx, pgx.Identifier{"item"}, []string{"id", "name"}, pgx.CopyFromRows(rows))
				return err
			},
			func() error {
				_, err := c.PgConn().CopyTo(ctx, io.Discard, "COPY item TO STDOUT")
				return err
			},
			func() error {
				_, err := c.PgConn().CopyFrom(ctx, strings.NewReader("1\tx\n"), "COPY item FROM STDIN")
				return err
			},
		)
	}),
	"multi": pgxConnected(func(ctx context.Context, c *pgx.Conn) error {
		_, err := c.PgConn().Exec(ctx, "SELECT 1 AS a; SELECT g AS b FROM generate_series(1, 3) g; CREATE TABLE made (id int)").ReadAll()
		return err
	}),
	"notify": pgxConnected(func(ctx context.Context, c *pgx.Conn) error {
		return steps(
			pgxExec(ctx, c, "LISTEN news"),
			pgxExec(ctx, c, "NOTIFY news, 'something'"),
			func() error {
				_, err := c.WaitForNotification(ctx)
				return err
			},
		)
	}),
}
