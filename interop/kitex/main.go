// Command kitex is a real Kitex server and a real Kitex client for the tests of flumen-rpc. Both speak the contract of
// echo.thrift and echo.proto; what they see goes to standard output as one JSON object a line.
package main

import (
	"encoding/json"
	"flag"
	"fmt"
	"os"
	"sync"
	"time"
)

const usage = `usage:
  kitex serve --protocol thrift|protobuf [--listen 127.0.0.1:0] [--exit-wait 1s]
  kitex call --protocol thrift-grpc|protobuf-grpc|ttheader|framed|ttheader-unary --address HOST:PORT --scenario NAME
  kitex capture --out DIR
`

func main() {
	if len(os.Args) < 2 {
		fail(usage)
	}
	flags := flag.NewFlagSet(os.Args[1], flag.ExitOnError)
	protocol := flags.String("protocol", "thrift", "what is spoken")
	switch os.Args[1] {
	case "serve":
		listen := flags.String("listen", "127.0.0.1:0", "address to listen on")
		wait := flags.Duration("exit-wait", time.Second, "how long streams may go on once the server is told to end")
		_ = flags.Parse(os.Args[2:])
		serve(*protocol, *listen, *wait)
	case "call":
		address := flags.String("address", "", "host and port of the server")
		scenario := flags.String("scenario", "order", "what to do")
		limit := flags.Duration("limit", 60*time.Second, "a scenario that takes longer has failed")
		_ = flags.Parse(os.Args[2:])
		call(*protocol, *address, *scenario, *limit)
	case "capture":
		out := flags.String("out", "vectors", "directory for what was recorded")
		_ = flags.Parse(os.Args[2:])
		capture(*out)
	default:
		fail(usage)
	}
}

var printing sync.Mutex

// say prints one object on one line; streams end at the same time.
func say(object any) {
	line, err := json.Marshal(object)
	if err != nil {
		fail(err)
	}
	printing.Lock()
	defer printing.Unlock()
	fmt.Printf("%s\n", line)
}

func fail(why any) {
	fmt.Fprintln(os.Stderr, why)
	os.Exit(2)
}
