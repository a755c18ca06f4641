// A server that speaks MySQL 8's protocol, in memory. It writes a line of JSON per statement that has ended: the truth that spans are
// compared with. Arguments: certificate and key file, then the names of databases to begin with. First line: `listening PORT`.
package main

import (
	"context"
	"crypto/tls"
	"encoding/json"
	"fmt"
	"net"
	"os"
	"sync"
	"time"

	"github.com/dolthub/vitess/go/mysql"
	"github.com/dolthub/vitess/go/sqltypes"
	querypb "github.com/dolthub/vitess/go/vt/proto/query"
	"github.com/dolthub/vitess/go/vt/sqlparser"

	sqle "github.com/dolthub/go-mysql-server"
	"github.com/dolthub/go-mysql-server/memory"
	"github.com/dolthub/go-mysql-server/server"
	"github.com/dolthub/go-mysql-server/sql"
	"github.com/dolthub/go-mysql-server/sql/mysql_db"
)

type ended struct {
	Port        int     `json:"port"`
	Database    string  `json:"database"`
	Prepared    bool    `json:"prepared"`
	Text        string  `json:"text"`
	DurationMs  float64 `json:"durationMs"`
	Rows        int     `json:"rows"`
	Affected    uint64  `json:"affected"`
	ErrorNumber int     `json:"errorNumber"`
}

type logger struct {
	mutex sync.Mutex
	out   *json.Encoder
	// The database of each connection when its statement began: by the connection's id.
	sessions *server.SessionManager
}

// The callback that counts, and what it has counted.
type counter struct {
	rows     int
	affected uint64
	// Fields come with the first part of a result, or never: then what looks like a row is the OK.
	hasFields bool
}

func (c *counter) add(result *sqltypes.Result) {
	if result == nil {
		return
	}
	c.hasFields = c.hasFields || len(result.Fields) > 0
	if c.hasFields {
		c.rows += len(result.Rows)
	} else {
		c.affected += result.RowsAffected
	}
}

func (l *logger) write(c *mysql.Conn, database, text string, prepared bool, begun time.Time, counted counter, err error) {
	entry := ended{
		Port: c.RemoteAddr().(*net.TCPAddr).Port, Database: database, Prepared: prepared, Text: text,
		DurationMs: float64(time.Since(begun).Microseconds()) / 1000, Rows: counted.rows, Affected: counted.affected,
	}
	if err != nil {
		entry.ErrorNumber = mysql.ERUnknownError
		if known, ok := err.(*mysql.SQLError); ok {
			entry.ErrorNumber = known.Num
		} else if cast := sql.CastSQLError(err); cast != nil {
			entry.ErrorNumber = cast.Num
		}
	}
	l.mutex.Lock()
	defer l.mutex.Unlock()
	_ = l.out.Encode(entry)
}

func (l *logger) database(c *mysql.Conn) string {
	return l.sessions.GetCurrentDB(c)
}

func (l *logger) Priority() int { return 0 }

func (l *logger) Query(ctx context.Context, chain server.Chain, c *mysql.Conn, query string, callback func(*sqltypes.Result, bool) error) error {
	begun, database, counted := time.Now(), l.database(c), counter{}
	text := string([]byte(query))
	err := chain.ComQuery(ctx, c, query, func(result *sqltypes.Result, more bool) error {
		counted.add(result)
		return callback(result, more)
	})
	l.write(c, database, text, false, begun, counted, err)
	return err
}

func (l *logger) ParsedQuery(chain server.Chain, c *mysql.Conn, query string, _ sqlparser.Statement, callback func(*sqltypes.Result, bool) error) error {
	return l.Query(context.Background(), chain, c, query, callback)
}

func (l *logger) MultiQuery(ctx context.Context, chain server.Chain, c *mysql.Conn, query string, callback func(*sqltypes.Result, bool) error) (string, error) {
	begun, database, counted := time.Now(), l.database(c), counter{}
	text := string([]byte(query))
	rest, err := chain.ComMultiQuery(ctx, c, query, func(result *sqltypes.Result, more bool) error {
		counted.add(result)
		return callback(result, more)
	})
	if len(rest) < len(text) {
		text = text[:len(text)-len(rest)]
	}
	l.write(c, database, text, false, begun, counted, err)
	return rest, err
}

func (l *logger) Prepare(ctx context.Context, chain server.Chain, c *mysql.Conn, query string, prepare *mysql.PrepareData) ([]*querypb.Field, error) {
	return chain.ComPrepare(ctx, c, query, prepare)
}

func (l *logger) StmtExecute(ctx context.Context, chain server.Chain, c *mysql.Conn, prepare *mysql.PrepareData, callback func(*sqltypes.Result) error) error {
	begun, database, counted := time.Now(), l.database(c), counter{}
	err := chain.ComStmtExecute(ctx, c, prepare, func(result *sqltypes.Result) error {
		counted.add(result)
		return callback(result)
	})
	l.write(c, database, prepare.PrepareStmt, true, begun, counted, err)
	return err
}

func run() error {
	certificate, err := tls.LoadX509KeyPair(os.Args[1], os.Args[2])
	if err != nil {
		return err
	}
	databases := []sql.Database{}
	for _, name := range os.Args[3:] {
		database := memory.NewDatabase(name)
		database.BaseDatabase.EnablePrimaryKeyIndexes()
		databases = append(databases, database)
	}
	provider := memory.NewDBProvider(databases...)
	engine := sqle.NewDefault(provider)
	engine.Analyzer.Catalog.MySQLDb.AddRootAccount()
	engine.Analyzer.Catalog.MySQLDb.SetPersister(&mysql_db.NoopPersister{})
	base := sql.NewBaseSession()
	base.SetClient(sql.Client{User: "root", Address: "localhost"})
	ctx := sql.NewContext(context.Background(), sql.WithSession(memory.NewSession(base, provider)))
	for _, statement := range []string{
		"CREATE USER admin@'%' IDENTIFIED WITH mysql_native_password BY 'Correct-Horse-7'",
		"CREATE USER sha2@'%' IDENTIFIED WITH caching_sha2_password BY 'Correct-Horse-7'",
		"GRANT ALL ON *.* TO admin@'%' WITH GRANT OPTION",
		"GRANT ALL ON *.* TO sha2@'%' WITH GRANT OPTION",
	} {
		_, rows, _, err := engine.Query(ctx, statement)
		if err != nil {
			return fmt.Errorf("%s: %w", statement, err)
		}
		if _, err := sql.RowIterToRows(ctx, rows); err != nil {
			return fmt.Errorf("%s: %w", statement, err)
		}
	}
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return err
	}
	log := &logger{out: json.NewEncoder(os.Stdout)}
	log.out.SetEscapeHTML(false)
	var chain server.InterceptorChain
	chain.WithInterceptor(log)
	manager := func(e *sqle.Engine, sm *server.SessionManager, h mysql.Handler) (*sqle.Engine, *server.SessionManager, mysql.Handler) {
		log.sessions = sm
		return e, sm, h
	}
	config := server.Config{
		Protocol:  "tcp",
		Listener:  listener,
		Address:   listener.Addr().String(),
		TLSConfig: &tls.Config{Certificates: []tls.Certificate{certificate}},
		Options:   []server.Option{manager, chain.Option()},
	}
	s, err := server.NewServer(config, engine, sql.NewContext, memory.NewSessionBuilder(provider), nil)
	if err != nil {
		return err
	}
	fmt.Printf("listening %d\n", listener.Addr().(*net.TCPAddr).Port)
	return s.Start()
}

func main() {
	if err := run(); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}
