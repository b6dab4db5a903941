package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"runtime"
	"time"

	"github.com/cloudwego/kitex/client/callopt/streamcall"

	"flumen.dev/interop/kitex/kitex_gen/echo"
)

func call(protocol, address, name string, limit time.Duration) {
	run, ok := scenarios[name]
	if !ok {
		fail("no such scenario: " + name)
	}
	start := time.Now()
	time.AfterFunc(limit, func() {
		say(&outcome{Scenario: name, Protocol: protocol, Problem: "no end after " + limit.String(), Ms: limit.Milliseconds()})
		os.Exit(1)
	})
	seen := &outcome{Scenario: name, Protocol: protocol, InOrder: true}
	peer := newPeer(protocol, address)
	err := run(seen, peer)
	if err != nil {
		seen.Problem = err.Error()
	}
	seen.Ok = err == nil
	seen.Ms = time.Since(start).Milliseconds()
	say(seen)
	// A frame that resets a stream is written after its caller has been told.
	if seen.Error != nil {
		time.Sleep(200 * time.Millisecond)
	}
	// A client that nobody refers to closes its connections, and its streams do not count.
	runtime.KeepAlive(peer)
	if !seen.Ok {
		os.Exit(1)
	}
}

// next receives a message that is to be the next one in order.
func (o *outcome) next(s *stream) (*echo.Message, error) {
	message, err := s.receive()
	if err != nil {
		return nil, err
	}
	o.InOrder = o.InOrder && message.Seq == o.Received
	o.Received++
	return message, nil
}

// rest receives until the stream has ended, and keeps how it did.
func (o *outcome) rest(s *stream, each func(seq int64)) {
	var err error
	var message *echo.Message
	for err == nil {
		if message, err = o.next(s); err == nil {
			each(message.Seq)
		}
	}
	if !errors.Is(err, io.EOF) {
		o.failure = describe(err)
	}
	o.Header, _ = s.Header()
	o.Trailer, _ = s.Trailer()
}

// complete says what is wrong with a stream that ought to have ended well.
func (o *outcome) complete(count int64) error {
	switch {
	case o.Error != nil:
		return errors.New("the stream failed")
	case o.Received != count:
		return fmt.Errorf("%d messages instead of %d", o.Received, count)
	case !o.InOrder:
		return errors.New("out of order")
	}
	return nil
}

func (o *outcome) downloadAll(p peer, plan *echo.Plan, each func(seq int64)) error {
	s, err := p.download(context.Background(), plan)
	if err != nil {
		return err
	}
	o.Sent = 1
	o.rest(s, each)
	return o.complete(plan.Count)
}

func (o *outcome) failing(p peer, plan *echo.Plan) error {
	s, err := p.download(context.Background(), plan)
	if err != nil {
		return err
	}
	o.Sent = 1
	o.rest(s, func(int64) {})
	if o.Error == nil {
		return errors.New("the stream did not fail")
	}
	if o.Received != plan.FailAfter {
		return fmt.Errorf("%d messages before the error instead of %d", o.Received, plan.FailAfter)
	}
	return nil
}

// echo sends and receives at the same time.
func (o *outcome) echo(p peer, ctx context.Context, count int64) error {
	s, err := p.bidi(ctx)
	if err != nil {
		return err
	}
	sending := make(chan error, 1)
	go func() { sending <- o.sendAll(s, count) }()
	o.rest(s, func(int64) {})
	if err := <-sending; err != nil {
		return fmt.Errorf("send: %w", err)
	}
	return o.complete(count)
}

func (o *outcome) sendAll(s *stream, count int64) error {
	for seq := int64(0); seq < count; seq++ {
		if err := s.send(&echo.Message{Seq: seq, Payload: payload(seq, 16)}); err != nil {
			return err
		}
		o.Sent++
	}
	return s.CloseSend(context.Background())
}

func (o *outcome) halfClose(p peer) error {
	s, err := p.bidi(context.Background())
	if err != nil {
		return err
	}
	if err := o.sendAll(s, 100); err != nil {
		return fmt.Errorf("send: %w", err)
	}
	o.rest(s, func(int64) {})
	return o.complete(100)
}

func (o *outcome) upload(p peer) error {
	s, err := p.upload(context.Background())
	if err != nil {
		return err
	}
	for seq := int64(0); seq < many; seq++ {
		if err := s.send(&echo.Message{Seq: seq, Payload: payload(seq, 16)}); err != nil {
			return fmt.Errorf("send: %w", err)
		}
		o.Sent++
	}
	got, err := s.closeAndRecv()
	o.failure = describe(err)
	if err != nil {
		return err
	}
	o.Received = 1
	o.Header, _ = s.Header()
	o.Summary = &summary{Count: got.Count, Bytes: got.Bytes, InOrder: got.InOrder}
	if *o.Summary != (summary{Count: many, Bytes: many * 16, InOrder: true}) {
		return errors.New("that is not what was sent")
	}
	return nil
}

// cancel receives some of an endless stream, and then wants no more.
func (o *outcome) cancel(p peer, ctx context.Context, stop func()) error {
	s, err := p.download(ctx, endless)
	if err != nil {
		return err
	}
	o.Sent = 1
	for range 10 {
		if _, err := o.next(s); err != nil {
			o.failure = describe(err)
			return errors.New("the stream failed before it was cancelled")
		}
	}
	stop()
	o.rest(s, func(int64) {})
	return o.failed()
}

// until receives for as long as the stream goes on.
func (o *outcome) until(p peer, ctx context.Context, atLeast time.Duration, plan *echo.Plan, options ...streamcall.Option) error {
	start := time.Now()
	s, err := p.download(ctx, plan, options...)
	if err != nil {
		return err
	}
	o.Sent = 1
	o.rest(s, func(seq int64) {
		if seq == 9 {
			// Whoever is to end the server waits for this.
			fmt.Fprintln(os.Stderr, "receiving")
		}
	})
	if time.Since(start) < atLeast {
		return errors.New("the stream ended too early")
	}
	return o.failed()
}

func (o *outcome) failed() error {
	if o.Error == nil {
		return errors.New("the stream did not fail")
	}
	want := codes[o.Scenario].grpc
	if o.Protocol == "ttheader" {
		want = codes[o.Scenario].ttheader
	}
	if want != 0 && (o.Code == nil || *o.Code != want) {
		return fmt.Errorf("that is not an error with the code %d", want)
	}
	return nil
}

func (o *outcome) ping(p peer, ctx context.Context) error {
	message := &echo.Message{Seq: 7, Payload: []byte("ping")}
	answer, err := p.ping(ctx, message)
	o.failure = describe(err)
	if err != nil {
		return err
	}
	o.Sent, o.Received = 1, 1
	if answer.Seq != message.Seq || !bytes.Equal(answer.Payload, message.Payload) {
		return errors.New("that is not what was sent")
	}
	return nil
}
