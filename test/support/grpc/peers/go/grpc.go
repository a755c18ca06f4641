package main

import (
	"bytes"
	"context"
	"crypto/tls"
	"encoding/json"
	"fmt"
	"io"
	"strings"
	"sync"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/connectivity"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/encoding/gzip"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"
)

// Messages as they are, under the name of the usual codec.
type raw struct{}

func (raw) Marshal(value any) ([]byte, error) { return *value.(*[]byte), nil }
func (raw) Name() string                      { return "proto" }
func (raw) Unmarshal(data []byte, value any) error {
	*value.(*[]byte) = bytes.Clone(data)
	return nil
}

type wish struct {
	Bytes     *int `json:"bytes"`
	Replies   *int `json:"replies"`
	Status    int  `json:"status"`
	FailFirst bool `json:"failFirst"`
	Hang      bool `json:"hang"`
}

func or(value *int, otherwise int) int {
	if value == nil {
		return otherwise
	}
	return *value
}

type answeredCall struct {
	Method        string `json:"method"`
	Requests      int    `json:"requests"`
	Responses     int    `json:"responses"`
	Status        int    `json:"status"`
	RequestBytes  int    `json:"requestBytes"`
	ResponseBytes int    `json:"responseBytes"`
}

func serveCall(_ any, stream grpc.ServerStream) error {
	full, _ := grpc.MethodFromServerStream(stream)
	method, known := strings.CutPrefix(full, "/test.Calls/")
	kinds := map[string]bool{"Unary": true, "Upload": true, "Download": true, "Chat": true}
	if !known || !kinds[method] {
		return status.Error(codes.Unimplemented, "not for traces")
	}
	call := answeredCall{Method: method}
	var asked wish
	reply := func() error {
		message := bytes.Repeat([]byte("y"), or(asked.Bytes, 10))
		if err := stream.SendMsg(&message); err != nil {
			return err
		}
		call.Responses++
		call.ResponseBytes += len(message)
		return nil
	}
	for {
		var message []byte
		if err := stream.RecvMsg(&message); err == io.EOF {
			break
		} else if err != nil {
			return err
		}
		call.Requests++
		call.RequestBytes += len(message)
		asked = wish{}
		if err := json.Unmarshal(message, &asked); err != nil {
			return status.Error(codes.InvalidArgument, "not for traces")
		}
		if method == "Chat" {
			if err := reply(); err != nil {
				return err
			}
		}
	}
	replies := 0
	switch {
	case method == "Download" && !asked.FailFirst:
		replies = or(asked.Replies, 3)
	case (method == "Unary" || method == "Upload") && asked.Status == 0 && !asked.Hang:
		replies = 1
	}
	for i := 0; i < replies; i++ {
		if err := reply(); err != nil {
			return err
		}
	}
	if asked.Hang {
		<-stream.Context().Done()
		return stream.Context().Err()
	}
	call.Status = asked.Status
	say(call)
	if asked.Status != 0 {
		return status.Error(codes.Code(asked.Status), "not for traces")
	}
	return nil
}

func grpcServer(args []string) {
	listener, cert, key := listen(args)
	options := []grpc.ServerOption{
		grpc.UnknownServiceHandler(serveCall),
		grpc.ForceServerCodec(raw{}),
		grpc.MaxConcurrentStreams(10_000),
	}
	if cert != "" {
		secure, err := credentials.NewServerTLSFromFile(cert, key)
		check(err)
		options = append(options, grpc.Creds(secure))
	}
	check(grpc.NewServer(options...).Serve(listener))
}

type calls struct {
	Path       string            `json:"path"`
	Count      int               `json:"count"`
	Requests   *int              `json:"requests"`
	Ask        json.RawMessage   `json:"ask"`
	DeadlineMs int               `json:"deadlineMs"`
	CancelMs   int               `json:"cancelMs"`
	Metadata   map[string]string `json:"metadata"`
}

type ended struct {
	Path      string `json:"path"`
	Status    int    `json:"status"`
	Requests  int    `json:"requests"`
	Responses int    `json:"responses"`
}

func makeCall(connection *grpc.ClientConn, each calls, options []grpc.CallOption) ended {
	end := ended{Path: each.Path, Requests: or(each.Requests, 1)}
	ctx := metadata.NewOutgoingContext(context.Background(), metadata.New(each.Metadata))
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	if each.DeadlineMs > 0 {
		ctx, cancel = context.WithTimeout(ctx, time.Duration(each.DeadlineMs)*time.Millisecond)
		defer cancel()
	}
	if each.CancelMs > 0 {
		timer := time.AfterFunc(time.Duration(each.CancelMs)*time.Millisecond, cancel)
		defer timer.Stop()
	}
	kind := &grpc.StreamDesc{ServerStreams: true, ClientStreams: true}
	stream, err := connection.NewStream(ctx, kind, each.Path, options...)
	if err != nil {
		end.Status = int(status.Code(err))
		return end
	}
	message := []byte(each.Ask)
	if message == nil {
		message = []byte("{}")
	}
	for i := 0; i < end.Requests; i++ {
		// What it fails with, RecvMsg says.
		if stream.SendMsg(&message) != nil {
			break
		}
	}
	stream.CloseSend()
	for {
		var reply []byte
		if err = stream.RecvMsg(&reply); err != nil {
			break
		}
		end.Responses++
	}
	if err != io.EOF {
		end.Status = int(status.Code(err))
	}
	return end
}

func grpcClient(args []string) {
	var task struct {
		Compress bool    `json:"compress"`
		Calls    []calls `json:"calls"`
	}
	check(json.Unmarshal([]byte(args[2]), &task))
	secure := insecure.NewCredentials()
	if args[1] != "-" {
		secure = credentials.NewTLS(&tls.Config{InsecureSkipVerify: true})
	}
	connection, err := grpc.NewClient("passthrough:///"+args[0], grpc.WithTransportCredentials(secure))
	check(err)
	// Deadlines are of calls, not of the connection.
	connection.Connect()
	for state := connection.GetState(); state != connectivity.Ready; state = connection.GetState() {
		connection.WaitForStateChange(context.Background(), state)
	}
	options := []grpc.CallOption{grpc.ForceCodec(raw{})}
	if task.Compress {
		options = append(options, grpc.UseCompressor(gzip.Name))
	}
	var all sync.WaitGroup
	var ends []ended
	var lock sync.Mutex
	for _, each := range task.Calls {
		for i := 0; i < max(each.Count, 1); i++ {
			all.Go(func() {
				end := makeCall(connection, each, options)
				lock.Lock()
				defer lock.Unlock()
				ends = append(ends, end)
			})
		}
	}
	all.Wait()
	if err := connection.Close(); err != nil {
		fmt.Println(err)
	}
	say(ends)
}
