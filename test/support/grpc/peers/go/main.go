// HTTP/2 by Go's net/http and gRPC by grpc-go, over Go's own TLS or plain. Servers say `listening PORT`, then a line of JSON per answer.
//
//	peers http-server HOST PORT [CERT KEY]   what http2-server.mjs answers, as far as it stands in http.go; plain it agrees to `Upgrade: h2c`
//	peers http-client BASE JSON              as http2.mjs
//	peers grpc-server HOST PORT [CERT KEY]   as grpc-server.mjs
//	peers grpc-client HOST:PORT CERT JSON    as grpc.mjs
package main

import (
	"encoding/json"
	"fmt"
	"net"
	"os"
	"sync"
)

var output sync.Mutex

// Writes one line of JSON, also from many goroutines.
func say(value any) {
	text, err := json.Marshal(value)
	check(err)
	output.Lock()
	defer output.Unlock()
	fmt.Println(string(text))
}

func check(err error) {
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

// The listener of a server's first two arguments, and its certificate and key, empty when plain.
func listen(args []string) (net.Listener, string, string) {
	listener, err := net.Listen("tcp", net.JoinHostPort(args[0], args[1]))
	check(err)
	fmt.Printf("listening %d\n", listener.Addr().(*net.TCPAddr).Port)
	if len(args) < 4 {
		return listener, "", ""
	}
	return listener, args[2], args[3]
}

func main() {
	modes := map[string]func([]string){
		"http-server": httpServer,
		"http-client": httpClient,
		"grpc-server": grpcServer,
		"grpc-client": grpcClient,
	}
	if len(os.Args) < 4 || modes[os.Args[1]] == nil {
		fmt.Fprintln(os.Stderr, "see main.go")
		os.Exit(2)
	}
	modes[os.Args[1]](os.Args[2:])
}
