package main

import (
	"context"
	"sync/atomic"
	"time"

	"github.com/cloudwego/kitex/client"
	"github.com/cloudwego/kitex/pkg/remote/trans/ttstream"
	"github.com/cloudwego/kitex/transport"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"

	grpcgo "flumen.dev/bench/peers/grpc_gen/echopb"
	"flumen.dev/bench/peers/kitex_gen/echo"
	thrift "flumen.dev/bench/peers/kitex_gen/echo/echo"
	"flumen.dev/bench/peers/kitex_gen/echopb"
	protobuf "flumen.dev/bench/peers/kitex_gen/echopb/echo"
)

// open starts a stream; what it returns sends a message and waits for the one that comes back.
type open func(ctx context.Context) (exchange, error)

type exchange func(seq int64, payload []byte) (echoed int64, size int, err error)

func connect(kind, address, pool string, connections int) open {
	switch kind {
	case "kitex-grpc":
		c := protobuf.MustNewClient("Echo", clientOptions("grpc", address, pool, connections)...)
		return func(ctx context.Context) (exchange, error) {
			stream, err := c.Bidi(ctx)
			return func(seq int64, payload []byte) (int64, int, error) {
				if err := stream.Send(ctx, &echopb.Message{Seq: seq, Payload: payload}); err != nil {
					return 0, 0, err
				}
				message, err := stream.Recv(ctx)
				return message.GetSeq(), len(message.GetPayload()), err
			}, err
		}
	case "kitex-ttheader", "kitex-thrift-grpc":
		transport := "ttheader"
		if kind == "kitex-thrift-grpc" {
			transport = "grpc"
		}
		c := thrift.MustNewClient("Echo", clientOptions(transport, address, pool, connections)...)
		return func(ctx context.Context) (exchange, error) {
			stream, err := c.Bidi(ctx)
			return func(seq int64, payload []byte) (int64, int, error) {
				if err := stream.Send(ctx, &echo.Message{Seq: seq, Payload: payload}); err != nil {
					return 0, 0, err
				}
				message, err := stream.Recv(ctx)
				return message.GetSeq(), len(message.GetPayload()), err
			}, err
		}
	case "grpc-go":
		return connectGrpcGo(address, max(connections, 1))
	}
	fail("no such kind: " + kind)
	return nil
}

func clientOptions(protocol, address, pool string, connections int) []client.Option {
	options := []client.Option{client.WithHostPorts(address), client.WithConnectTimeout(time.Second)}
	if protocol == "grpc" {
		options = append(options, client.WithTransportProtocol(transport.GRPC))
		if connections > 0 {
			options = append(options, client.WithGRPCConnPoolSize(uint32(connections)))
		}
		return options
	}
	choice := ttstream.DefaultMuxConnConfig
	if connections > 0 {
		choice.PoolSize = connections
	}
	connecting := ttstream.WithClientMuxConnPool(choice)
	if pool == "long" {
		connecting = ttstream.WithClientLongConnPool(ttstream.DefaultLongConnConfig)
	}
	return append(options, client.WithTransportProtocol(transport.TTHeaderStreaming),
		client.WithTTHeaderStreamingOptions(client.WithTTHeaderStreamingTransportOptions(connecting)))
}

func connectGrpcGo(address string, connections int) open {
	var all []*grpc.ClientConn
	for range connections {
		connection, err := grpc.NewClient(address, grpc.WithTransportCredentials(insecure.NewCredentials()))
		if err != nil {
			fail(err)
		}
		all = append(all, connection)
	}
	var opened atomic.Uint64
	return func(ctx context.Context) (exchange, error) {
		connection := all[opened.Add(1)%uint64(len(all))]
		client, err := connection.NewStream(ctx, &grpcGoEcho.Streams[0], "/echo.Echo/Bidi")
		stream := grpc.GenericClientStream[grpcgo.Message, grpcgo.Message]{ClientStream: client}
		return func(seq int64, payload []byte) (int64, int, error) {
			if err := stream.Send(&grpcgo.Message{Seq: seq, Payload: payload}); err != nil {
				return 0, 0, err
			}
			message, err := stream.Recv()
			return message.GetSeq(), len(message.GetPayload()), err
		}, err
	}
}
