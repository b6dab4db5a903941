// Command peers has what Flumen is measured against: servers and clients of Kitex and of grpc-go that play ping-pong
// over bidirectional streams, and a chain of a Hertz gateway and a Kitex service. Each reads the contract of
// interop/kitex, so that any client may meet any server. GOMAXPROCS is up to whoever starts it.
package main

import (
	"encoding/json"
	"flag"
	"fmt"
	"net"
	"os"
	"time"

	"github.com/cloudwego/hertz/pkg/common/hlog"
	"github.com/cloudwego/kitex/pkg/klog"
)

const usage = `usage:
  peers serve --kind kitex-grpc|kitex-thrift-grpc|kitex-ttheader|grpc-go [--listen 127.0.0.1:0]
  peers load --kind KIND --address HOST:PORT [--concurrency 100] [--seconds 5] [--size 1024] [--pool mux|long] [--connections 0]
  peers chain-service [--listen 127.0.0.1:0]
  peers chain-gateway --service HOST:PORT [--listen 127.0.0.1:0] [--transport ttheader|grpc] [--pool mux|long]
`

func main() {
	if len(os.Args) < 2 {
		fail(usage)
	}
	// A line for each stream that is cancelled is not what is measured.
	klog.SetLevel(klog.LevelFatal)
	hlog.SetLevel(hlog.LevelFatal)
	flags := flag.NewFlagSet(os.Args[1], flag.ExitOnError)
	kind := flags.String("kind", "kitex-grpc", "whose server or client")
	listen := flags.String("listen", "127.0.0.1:0", "address to listen on")
	// Streams share connections with mux, which kitex-benchmark measures as the faster one; with long each has its own.
	pool := flags.String("pool", "mux", "connections of TTHeader Streaming")
	address := flags.String("address", "", "server of a load")
	concurrency := flags.Int("concurrency", 100, "streams of a load")
	seconds := flags.Float64("seconds", 5, "how long a load is measured, after a second that is not")
	size := flags.Int("size", 1024, "payload of a message, in bytes")
	connections := flags.Int("connections", 0, "connections of a load by gRPC; 0 is what its library does")
	service := flags.String("service", "", "service behind the gateway")
	transport := flags.String("transport", "ttheader", "between gateway and service")
	_ = flags.Parse(os.Args[2:])
	switch os.Args[1] {
	case "serve":
		serve(*kind, listenOn(*listen))
	case "load":
		duration := time.Duration(*seconds * float64(time.Second))
		say(load(connect(*kind, *address, *pool, *connections), *concurrency, duration, *size))
	case "chain-service":
		chainService(listenOn(*listen))
	case "chain-gateway":
		chainGateway(listenOn(*listen), *service, *transport, *pool)
	default:
		fail(usage)
	}
}

// listenOn tells on the first line of the output where.
func listenOn(address string) net.Listener {
	listener, err := net.Listen("tcp", address)
	if err != nil {
		fail(err)
	}
	say(map[string]string{"listening": listener.Addr().String()})
	return listener
}

func say(object any) {
	line, err := json.Marshal(object)
	if err != nil {
		fail(err)
	}
	fmt.Printf("%s\n", line)
}

func fail(why any) {
	fmt.Fprintln(os.Stderr, why)
	os.Exit(2)
}
