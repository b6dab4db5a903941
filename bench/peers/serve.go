package main

import (
	"context"
	"errors"
	"io"
	"net"
	"time"

	"github.com/cloudwego/kitex/server"
	"google.golang.org/grpc"

	grpcgo "flumen.dev/bench/peers/grpc_gen/echopb"
	"flumen.dev/bench/peers/kitex_gen/echo"
	thrift "flumen.dev/bench/peers/kitex_gen/echo/echo"
	"flumen.dev/bench/peers/kitex_gen/echopb"
	protobuf "flumen.dev/bench/peers/kitex_gen/echopb/echo"
)

func serve(kind string, listener net.Listener) {
	var err error
	switch kind {
	case "kitex-grpc":
		err = protobuf.NewServer(&protobufEcho{}, kitexOptions(listener)...).Run()
	case "kitex-ttheader", "kitex-thrift-grpc":
		err = thrift.NewServer(&thriftEcho{}, kitexOptions(listener)...).Run()
	case "grpc-go":
		s := grpc.NewServer()
		s.RegisterService(&grpcGoEcho, nil)
		err = s.Serve(listener)
	default:
		fail("no such kind: " + kind)
	}
	if err != nil && !errors.Is(err, context.DeadlineExceeded) {
		fail(err)
	}
}

func kitexOptions(listener net.Listener) []server.Option {
	return []server.Option{
		server.WithListener(listener),
		server.WithExitWaitTime(100 * time.Millisecond),
	}
}

var errNotServed = errors.New("not served here")

type protobufEcho struct{}

func (*protobufEcho) Bidi(ctx context.Context, stream echopb.Echo_BidiServer) error {
	return bounce(func() (*echopb.Message, error) { return stream.Recv(ctx) },
		func(message *echopb.Message) error { return stream.Send(ctx, message) })
}

func (*protobufEcho) Download(context.Context, *echopb.Plan, echopb.Echo_DownloadServer) error {
	return errNotServed
}

func (*protobufEcho) Upload(context.Context, echopb.Echo_UploadServer) error { return errNotServed }

func (*protobufEcho) Ping(_ context.Context, message *echopb.Message) (*echopb.Message, error) {
	return message, nil
}

type thriftEcho struct{}

func (*thriftEcho) Bidi(ctx context.Context, stream echo.Echo_BidiServer) error {
	return bounce(func() (*echo.Message, error) { return stream.Recv(ctx) },
		func(message *echo.Message) error { return stream.Send(ctx, message) })
}

func (*thriftEcho) Download(context.Context, *echo.Plan, echo.Echo_DownloadServer) error {
	return errNotServed
}

func (*thriftEcho) Upload(context.Context, echo.Echo_UploadServer) error { return errNotServed }

func (*thriftEcho) Ping(_ context.Context, message *echo.Message) (*echo.Message, error) {
	return message, nil
}

// What protoc-gen-go-grpc would write for Bidi.
var grpcGoEcho = grpc.ServiceDesc{
	ServiceName: "echo.Echo",
	Streams: []grpc.StreamDesc{{
		StreamName:    "Bidi",
		ServerStreams: true,
		ClientStreams: true,
		Handler: func(_ any, server grpc.ServerStream) error {
			stream := grpc.GenericServerStream[grpcgo.Message, grpcgo.Message]{ServerStream: server}
			return bounce(stream.Recv, stream.Send)
		},
	}},
}

func bounce[M any](recv func() (*M, error), send func(*M) error) error {
	for {
		message, err := recv()
		if errors.Is(err, io.EOF) {
			return nil
		} else if err != nil {
			return err
		}
		if err := send(message); err != nil {
			return err
		}
	}
}
