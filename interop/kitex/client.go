package main

import (
	"context"

	"github.com/cloudwego/kitex/client"
	"github.com/cloudwego/kitex/client/callopt/streamcall"
	"github.com/cloudwego/kitex/pkg/rpcinfo"
	"github.com/cloudwego/kitex/pkg/streaming"
	"github.com/cloudwego/kitex/pkg/transmeta"
	"github.com/cloudwego/kitex/transport"

	"flumen.dev/interop/kitex/kitex_gen/echo"
	thrift "flumen.dev/interop/kitex/kitex_gen/echo/echo"
	"flumen.dev/interop/kitex/kitex_gen/echopb"
	protobuf "flumen.dev/interop/kitex/kitex_gen/echopb/echo"
)

// A client of either protocol.
type peer interface {
	bidi(ctx context.Context) (*stream, error)
	download(ctx context.Context, plan *echo.Plan, options ...streamcall.Option) (*stream, error)
	upload(ctx context.Context) (*stream, error)
	ping(ctx context.Context, message *echo.Message) (*echo.Message, error)
}

type stream struct {
	streaming.ClientStream
	send         send
	receive      receive
	closeAndRecv func() (*echo.Summary, error)
}

var transports = map[string]transport.Protocol{
	"thrift-grpc":   transport.GRPC,
	"protobuf-grpc": transport.GRPC,
	// For streams; a call that is none goes by TTHeader.
	"ttheader":       transport.TTHeaderStreaming | transport.TTHeader,
	"ttheader-unary": transport.TTHeader,
	"framed":         transport.Framed,
}

func newPeer(protocol, address string) peer {
	transport, ok := transports[protocol]
	if !ok {
		fail("no such protocol: " + protocol)
	}
	options := []client.Option{
		client.WithHostPorts(address),
		client.WithTransportProtocol(transport),
		client.WithClientBasicInfo(&rpcinfo.EndpointBasicInfo{ServiceName: "kitex-client"}),
		client.WithMetaHandler(transmeta.ClientTTHeaderHandler),
		client.WithMetaHandler(transmeta.ClientHTTP2Handler),
	}
	if protocol == "protobuf-grpc" {
		return protobufPeer{protobuf.MustNewClient("Echo", options...)}
	}
	return thriftPeer{thrift.MustNewClient("Echo", options...)}
}

type thriftPeer struct{ client thrift.Client }

func (p thriftPeer) bidi(ctx context.Context) (*stream, error) {
	s, err := p.client.Bidi(ctx)
	if err != nil {
		return nil, err
	}
	return &stream{ClientStream: s, send: sending(ctx, s.Send), receive: receiving(ctx, s.Recv)}, nil
}

func (p thriftPeer) download(ctx context.Context, plan *echo.Plan, options ...streamcall.Option) (*stream, error) {
	s, err := p.client.Download(ctx, plan, options...)
	if err != nil {
		return nil, err
	}
	return &stream{ClientStream: s, receive: receiving(ctx, s.Recv)}, nil
}

func (p thriftPeer) upload(ctx context.Context) (*stream, error) {
	s, err := p.client.Upload(ctx)
	if err != nil {
		return nil, err
	}
	return &stream{ClientStream: s, send: sending(ctx, s.Send), closeAndRecv: receiving(ctx, s.CloseAndRecv)}, nil
}

func (p thriftPeer) ping(ctx context.Context, message *echo.Message) (*echo.Message, error) {
	return p.client.Ping(ctx, message)
}

type protobufPeer struct{ client protobuf.Client }

func (p protobufPeer) bidi(ctx context.Context) (*stream, error) {
	s, err := p.client.Bidi(ctx)
	if err != nil {
		return nil, err
	}
	return &stream{ClientStream: s, send: sendingPb(ctx, s.Send), receive: receivingPb(ctx, s.Recv)}, nil
}

func (p protobufPeer) download(ctx context.Context, plan *echo.Plan, options ...streamcall.Option) (*stream, error) {
	s, err := p.client.Download(ctx, (*echopb.Plan)(plan), options...)
	if err != nil {
		return nil, err
	}
	return &stream{ClientStream: s, receive: receivingPb(ctx, s.Recv)}, nil
}

func (p protobufPeer) upload(ctx context.Context) (*stream, error) {
	s, err := p.client.Upload(ctx)
	if err != nil {
		return nil, err
	}
	return &stream{ClientStream: s, send: sendingPb(ctx, s.Send), closeAndRecv: func() (*echo.Summary, error) {
		summary, err := s.CloseAndRecv(ctx)
		return (*echo.Summary)(summary), err
	}}, nil
}

func (p protobufPeer) ping(ctx context.Context, message *echo.Message) (*echo.Message, error) {
	answer, err := p.client.Ping(ctx, (*echopb.Message)(message))
	return (*echo.Message)(answer), err
}
