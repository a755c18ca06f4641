package main

import (
	"bytes"
	"context"
	"crypto/tls"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"strconv"
	"strings"
	"sync"
	"time"

	"golang.org/x/net/http2"
	"golang.org/x/net/http2/h2c"
)

type answered struct {
	Method    string `json:"method"`
	Target    string `json:"target"`
	Status    int    `json:"status"`
	BodyBytes int    `json:"bodyBytes"`
}

func answer(writer http.ResponseWriter, request *http.Request, status int, body []byte) {
	say(answered{request.Method, request.RequestURI, status, len(body)})
	writer.Header().Set("content-type", "text/plain")
	writer.WriteHeader(status)
	writer.Write(body)
}

// /bytes/N, /status/N, /echo, /hints (103 before the answer, trailers behind it), /abort (RST_STREAM after the header list).
func handle(writer http.ResponseWriter, request *http.Request) {
	parts := strings.Split(request.URL.Path, "/")
	number := 0
	if len(parts) > 2 {
		number, _ = strconv.Atoi(parts[2])
	}
	switch parts[1] {
	case "bytes":
		answer(writer, request, 200, bytes.Repeat([]byte("x"), number))
	case "status":
		answer(writer, request, number, nil)
	case "echo":
		body, err := io.ReadAll(request.Body)
		if err == nil {
			answer(writer, request, 200, body)
		}
	case "hints":
		writer.Header().Set("link", "</style.css>; rel=preload; as=style")
		writer.WriteHeader(http.StatusEarlyHints)
		time.Sleep(50 * time.Millisecond)
		writer.Header().Set("trailer", "x-checksum")
		answer(writer, request, 200, []byte("hints"))
		writer.Header().Set("x-checksum", "17")
	case "abort":
		writer.WriteHeader(200)
		http.NewResponseController(writer).Flush()
		panic(http.ErrAbortHandler)
	default:
		answer(writer, request, 404, []byte("not found\n"))
	}
}

func httpServer(args []string) {
	listener, cert, key := listen(args)
	handler := http.HandlerFunc(handle)
	if cert == "" {
		check((&http.Server{Handler: h2c.NewHandler(handler, &http2.Server{})}).Serve(listener))
	}
	server := &http.Server{Handler: handler}
	check(http2.ConfigureServer(server, &http2.Server{MaxConcurrentStreams: 10_000}))
	check(server.ServeTLS(listener, cert, key))
}

type ask struct {
	Path     string            `json:"path"`
	Count    int               `json:"count"`
	Method   string            `json:"method"`
	Body     int               `json:"body"`
	Headers  map[string]string `json:"headers"`
	CancelMs int               `json:"cancelMs"`
}

// How a request ended: its status, or the name of what went wrong.
func send(client *http.Client, base string, each ask) string {
	ctx := context.Background()
	if each.CancelMs > 0 {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeout(ctx, time.Duration(each.CancelMs)*time.Millisecond)
		defer cancel()
	}
	method := each.Method
	if method == "" {
		method = "GET"
	}
	var body io.Reader
	if each.Body > 0 {
		body = bytes.NewReader(bytes.Repeat([]byte("y"), each.Body))
	}
	request, err := http.NewRequestWithContext(ctx, method, base+each.Path, body)
	check(err)
	for name, value := range each.Headers {
		request.Header.Set(name, value)
	}
	response, err := client.Do(request)
	if err == nil {
		defer response.Body.Close()
		_, err = io.Copy(io.Discard, response.Body)
	}
	if err != nil {
		return "error"
	}
	if response.ProtoMajor != 2 {
		return fmt.Sprintf("HTTP/%d", response.ProtoMajor)
	}
	return strconv.Itoa(response.StatusCode)
}

func httpClient(args []string) {
	var task struct {
		Serial bool  `json:"serial"`
		Asks   []ask `json:"asks"`
	}
	check(json.Unmarshal([]byte(args[1]), &task))
	protocols := new(http.Protocols)
	protocols.SetHTTP2(true)
	protocols.SetUnencryptedHTTP2(true)
	client := &http.Client{Transport: &http.Transport{
		TLSClientConfig: &tls.Config{InsecureSkipVerify: true},
		Protocols:       protocols,
	}}
	ends := map[string]int{}
	var lock sync.Mutex
	var all sync.WaitGroup
	for _, each := range task.Asks {
		for i := 0; i < max(each.Count, 1); i++ {
			one := func() {
				end := send(client, args[0], each)
				lock.Lock()
				defer lock.Unlock()
				ends[end]++
			}
			if task.Serial {
				one()
			} else {
				all.Go(one)
			}
		}
	}
	all.Wait()
	client.CloseIdleConnections()
	say(ends)
}
