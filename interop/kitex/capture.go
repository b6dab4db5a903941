package main

import (
	"context"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"io"
	"net"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
	"time"

	"github.com/bytedance/gopkg/cloud/metainfo"

	"flumen.dev/interop/kitex/kitex_gen/echo"
)

// What is recorded, each over a connection of its own.
var recordings = []struct {
	name, protocol string
	run            func(p peer) error
}{
	{"bidi", "ttheader", func(p peer) error { return exchange(p, context.Background(), 2) }},
	{"metadata", "ttheader", func(p peer) error {
		ctx := metainfo.WithPersistentValue(context.Background(), "pkey", "pval")
		return exchange(p, metainfo.WithValue(ctx, "tkey", "tval"), 1)
	}},
	{"download", "ttheader", func(p peer) error { return drain(p, context.Background(), &echo.Plan{Count: 3, Size: 4}) }},
	{"upload", "ttheader", func(p peer) error {
		s, err := p.upload(context.Background())
		if err != nil {
			return err
		}
		for seq := range int64(2) {
			if err := s.send(&echo.Message{Seq: seq, Payload: payload(seq, 4)}); err != nil {
				return err
			}
		}
		_, err = s.closeAndRecv()
		return err
	}},
	{"error", "ttheader", func(p peer) error {
		return drain(p, context.Background(), &echo.Plan{Count: 2, Size: 4, FailAfter: 1})
	}},
	{"bizerror", "ttheader", func(p peer) error {
		return drain(p, context.Background(), &echo.Plan{Count: 2, Size: 4, FailAfter: 1, BizCode: 4001, IntervalUs: 5000})
	}},
	{"cancel", "ttheader", func(p peer) error {
		ctx, cancel := context.WithCancel(context.Background())
		return drop(p, ctx, cancel)
	}},
	{"cancelcause", "ttheader", func(p peer) error {
		ctx, cancel := context.WithCancel(context.Background())
		return drop(p, withReason{ctx, errors.New("had enough")}, cancel)
	}},
	{"cancelbidi", "ttheader", func(p peer) error {
		ctx, cancel := context.WithCancel(context.Background())
		s, err := p.bidi(ctx)
		if err != nil {
			return err
		}
		if err := s.send(&echo.Message{Payload: payload(0, 4)}); err != nil {
			return err
		}
		if _, err := s.receive(); err != nil {
			return err
		}
		cancel()
		_, _ = s.receive()
		return nil
	}},
	{"deadline", "ttheader", func(p peer) error {
		ctx, cancel := context.WithTimeout(context.Background(), 70*time.Millisecond)
		defer cancel()
		return drain(p, ctx, unhurried)
	}},
	{"ping-ttheader", "ttheader-unary", ping},
	{"ping-framed", "framed", ping},
}

var unhurried = &echo.Plan{Endless: true, Size: 4, IntervalUs: 50_000}

// capture has a Kitex client talk to a Kitex server and writes down the bytes: NAME.client.hex is what the client sent,
// NAME.server.hex what the server did, a frame a line. The order of the entries of a header is another in each run.
func capture(out string) {
	if err := os.MkdirAll(out, 0o755); err != nil {
		fail(err)
	}
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		fail(err)
	}
	go func() { _ = newServer("thrift", listener, time.Second).Run() }()
	for _, recording := range recordings {
		recorder := record(listener.Addr().String())
		peer := newPeer(recording.protocol, recorder.address)
		if err := recording.run(peer); err != nil {
			fail(recording.name + ": " + err.Error())
		}
		// The last frame of a client follows the error that its caller is told.
		time.Sleep(100 * time.Millisecond)
		runtime.KeepAlive(peer)
		recorder.write(filepath.Join(out, recording.name))
	}
}

func exchange(p peer, ctx context.Context, count int64) error {
	s, err := p.bidi(ctx)
	if err != nil {
		return err
	}
	for seq := range count {
		if err := s.send(&echo.Message{Seq: seq, Payload: payload(seq, 4)}); err != nil {
			return err
		}
		if _, err := s.receive(); err != nil {
			return err
		}
	}
	if err := s.CloseSend(ctx); err != nil {
		return err
	}
	if _, err := s.receive(); !errors.Is(err, io.EOF) {
		return errors.New("no end")
	}
	return nil
}

// drain receives until the end, whichever that is.
func drain(p peer, ctx context.Context, plan *echo.Plan) error {
	s, err := p.download(ctx, plan)
	for err == nil {
		_, err = s.receive()
	}
	if s == nil {
		return err
	}
	return nil
}

func drop(p peer, ctx context.Context, cancel func()) error {
	s, err := p.download(ctx, unhurried)
	if err != nil {
		return err
	}
	for range 2 {
		if _, err := s.receive(); err != nil {
			return err
		}
	}
	cancel()
	if _, err := s.receive(); err == nil {
		return errors.New("not cancelled")
	}
	return nil
}

func ping(p peer) error {
	_, err := p.ping(context.Background(), &echo.Message{Seq: 7, Payload: []byte("ping")})
	return err
}

// A proxy that keeps what passes.
type recorder struct {
	address string

	mu     sync.Mutex
	client []byte
	server []byte
}

func record(server string) *recorder {
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		fail(err)
	}
	recorder := &recorder{address: listener.Addr().String()}
	go func() {
		for {
			client, err := listener.Accept()
			if err != nil {
				return
			}
			server, err := net.Dial("tcp", server)
			if err != nil {
				fail(err)
			}
			go recorder.pass(client, server, &recorder.client)
			go recorder.pass(server, client, &recorder.server)
		}
	}()
	return recorder
}

func (r *recorder) pass(from, to net.Conn, kept *[]byte) {
	defer to.Close()
	buffer := make([]byte, 64<<10)
	for {
		n, err := from.Read(buffer)
		if err != nil {
			return
		}
		r.mu.Lock()
		*kept = append(*kept, buffer[:n]...)
		r.mu.Unlock()
		if _, err := to.Write(buffer[:n]); err != nil {
			return
		}
	}
}

func (r *recorder) write(path string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for side, bytes := range map[string][]byte{"client": r.client, "server": r.server} {
		if err := os.WriteFile(path+"."+side+".hex", []byte(frames(bytes)), 0o644); err != nil {
			fail(err)
		}
	}
}

// frames cuts the bytes where their lengths say.
func frames(bytes []byte) string {
	var lines strings.Builder
	for len(bytes) > 0 {
		end := len(bytes)
		if end >= 4 {
			end = min(end, 4+int(binary.BigEndian.Uint32(bytes)))
		}
		lines.WriteString(hex.EncodeToString(bytes[:end]) + "\n")
		bytes = bytes[end:]
	}
	return lines.String()
}
