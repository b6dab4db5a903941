package main

import (
	"context"
	"errors"
	"net"
	"time"

	"github.com/cloudwego/kitex/pkg/remote/trans/ttstream"
	"github.com/cloudwego/kitex/pkg/rpcinfo"
	"github.com/cloudwego/kitex/pkg/transmeta"
	"github.com/cloudwego/kitex/server"

	"flumen.dev/interop/kitex/kitex_gen/echo"
	thrift "flumen.dev/interop/kitex/kitex_gen/echo/echo"
	"flumen.dev/interop/kitex/kitex_gen/echopb"
	protobuf "flumen.dev/interop/kitex/kitex_gen/echopb/echo"
)

// serve ends by SIGTERM: Kitex then waits for its streams, and cuts those that still run.
func serve(protocol, address string, wait time.Duration) {
	listener, err := net.Listen("tcp", address)
	if err != nil {
		fail(err)
	}
	say(map[string]string{"listening": listener.Addr().String()})
	err = newServer(protocol, listener, wait).Run()
	// That is what it says of TTHeader streams which it did not end.
	if err != nil && !errors.Is(err, context.DeadlineExceeded) {
		fail(err)
	}
}

func newServer(protocol string, listener net.Listener, wait time.Duration) server.Server {
	options := []server.Option{
		server.WithListener(listener),
		server.WithExitWaitTime(wait),
		server.WithServerBasicInfo(&rpcinfo.EndpointBasicInfo{ServiceName: "kitex-server"}),
		server.WithMetaHandler(transmeta.ServerTTHeaderHandler),
		server.WithMetaHandler(transmeta.ServerHTTP2Handler),
		// Without it a handler of TTHeader never learns of the caller's timeout.
		server.WithEnableContextTimeout(true),
		server.WithTTHeaderStreamingOptions(server.WithTTHeaderStreamingTransportOptions(
			ttstream.WithServerHeaderFrameHandler(frameHeaders{}))),
	}
	switch protocol {
	case "thrift":
		return thrift.NewServer(&thriftEcho{}, options...)
	case "protobuf":
		return protobuf.NewServer(&protobufEcho{}, options...)
	}
	fail("no such protocol: " + protocol)
	return nil
}

type thriftEcho struct{ handlers }

func (e thriftEcho) Bidi(ctx context.Context, stream echo.Echo_BidiServer) error {
	return e.bidi(ctx, stream, receiving(ctx, stream.Recv), sending(ctx, stream.Send))
}

func (e thriftEcho) Download(ctx context.Context, plan *echo.Plan, stream echo.Echo_DownloadServer) error {
	return e.download(ctx, stream, plan, sending(ctx, stream.Send))
}

func (e thriftEcho) Upload(ctx context.Context, stream echo.Echo_UploadServer) error {
	return e.upload(ctx, stream, receiving(ctx, stream.Recv), sending(ctx, stream.SendAndClose))
}

func (e thriftEcho) Ping(ctx context.Context, message *echo.Message) (*echo.Message, error) {
	return e.ping(ctx, message)
}

type protobufEcho struct{ handlers }

func (e protobufEcho) Bidi(ctx context.Context, stream echopb.Echo_BidiServer) error {
	return e.bidi(ctx, stream, receivingPb(ctx, stream.Recv), sendingPb(ctx, stream.Send))
}

func (e protobufEcho) Download(ctx context.Context, plan *echopb.Plan, stream echopb.Echo_DownloadServer) error {
	return e.download(ctx, stream, (*echo.Plan)(plan), sendingPb(ctx, stream.Send))
}

func (e protobufEcho) Upload(ctx context.Context, stream echopb.Echo_UploadServer) error {
	return e.upload(ctx, stream, receivingPb(ctx, stream.Recv), func(summary *echo.Summary) error {
		return stream.SendAndClose(ctx, (*echopb.Summary)(summary))
	})
}

func (e protobufEcho) Ping(ctx context.Context, message *echopb.Message) (*echopb.Message, error) {
	answer, err := e.ping(ctx, (*echo.Message)(message))
	return (*echopb.Message)(answer), err
}

func receiving[M any](ctx context.Context, recv func(context.Context) (*M, error)) func() (*M, error) {
	return func() (*M, error) { return recv(ctx) }
}

func sending[M any](ctx context.Context, send func(context.Context, *M) error) func(*M) error {
	return func(message *M) error { return send(ctx, message) }
}

func receivingPb(ctx context.Context, recv func(context.Context) (*echopb.Message, error)) receive {
	return func() (*echo.Message, error) {
		message, err := recv(ctx)
		return (*echo.Message)(message), err
	}
}

func sendingPb(ctx context.Context, send func(context.Context, *echopb.Message) error) send {
	return func(message *echo.Message) error { return send(ctx, (*echopb.Message)(message)) }
}
