// PostgreSQL by pgx and MySQL by go-sql-driver, both over Go's own TLS. Arguments: `pgx` or `mysql`, and the JSON that common.mjs describes.
package main

import (
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"time"
)

type settings struct {
	Host     string   `json:"host"`
	Port     int      `json:"port"`
	User     string   `json:"user"`
	Password string   `json:"password"`
	TLS      bool     `json:"tls"`
	CA       string   `json:"ca"`
	Direct   bool     `json:"direct"`
	Prefix   string   `json:"prefix"`
	Users    bool     `json:"users"`
	Rows     int      `json:"rows"`
	Features []string `json:"features"`
}

type line struct {
	Feature string `json:"feature"`
	OK      bool   `json:"ok"`
	StartMs int64  `json:"startMs"`
	EndMs   int64  `json:"endMs"`
	Error   string `json:"error,omitempty"`
}

type feature func(database string, s settings) error

// Bytes of every value.
func blob() []byte {
	bytes := make([]byte, 100_000)
	for index := range bytes {
		bytes[index] = byte(index * 7)
	}
	return bytes
}

// Turns the error of what must fail into success.
func mustFail(err error) error {
	if err == nil {
		return errors.New("did not fail")
	}
	return nil
}

// The first error of steps, which are taken until one fails.
func steps(all ...func() error) error {
	for index, step := range all {
		if err := step(); err != nil {
			return fmt.Errorf("step %d: %w", index, err)
		}
	}
	return nil
}

func tlsConfig(s settings) (*tls.Config, error) {
	if !s.TLS {
		return nil, nil
	}
	pem, err := os.ReadFile(s.CA)
	if err != nil {
		return nil, err
	}
	roots := x509.NewCertPool()
	roots.AppendCertsFromPEM(pem)
	return &tls.Config{RootCAs: roots, ServerName: "localhost"}, nil
}

func main() {
	var s settings
	if err := json.Unmarshal([]byte(os.Args[2]), &s); err != nil {
		panic(err)
	}
	features := map[string]map[string]feature{"pgx": pgxFeatures, "mysql": mysqlFeatures}[os.Args[1]]
	failed := 0
	out := json.NewEncoder(os.Stdout)
	for _, name := range s.Features {
		result := line{Feature: name, OK: true, StartMs: time.Now().UnixMilli()}
		database, mine := s.Prefix+"_"+name, s
		if s.Users {
			database, mine.User = s.Prefix, database
		}
		err := errors.New("no such feature")
		if run, found := features[name]; found {
			err = run(database, mine)
		}
		if err != nil {
			failed = 1
			result.OK = false
			result.Error = err.Error()
		}
		result.EndMs = time.Now().UnixMilli()
		// What is told by its time keeps its distance.
		time.Sleep(20 * time.Millisecond)
		_ = out.Encode(result)
	}
	os.Exit(failed)
}
