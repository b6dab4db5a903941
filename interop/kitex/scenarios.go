package main

import (
	"context"
	"errors"
	"time"

	"github.com/bytedance/gopkg/cloud/metainfo"
	"github.com/cloudwego/kitex/client/callopt/streamcall"
	"github.com/cloudwego/kitex/pkg/streaming"

	"flumen.dev/interop/kitex/kitex_gen/echo"
)

// What the client saw of one scenario. The error is that of the call, and may be what the scenario is about; `ok` says
// whether all was as it ought to be, and `problem` what was not.
type outcome struct {
	Scenario string `json:"scenario"`
	Protocol string `json:"protocol"`
	Ok       bool   `json:"ok"`
	Problem  string `json:"problem,omitempty"`
	Sent     int64  `json:"sent"`
	Received int64  `json:"received"`
	InOrder  bool   `json:"in_order"`
	failure
	Ms      int64             `json:"ms"`
	Summary *summary          `json:"summary"`
	Header  streaming.Header  `json:"header"`
	Trailer streaming.Trailer `json:"trailer"`
}

type summary struct {
	Count   int64 `json:"count"`
	Bytes   int64 `json:"bytes"`
	InOrder bool  `json:"in_order"`
}

const many = 10_000

var (
	endless         = &echo.Plan{Endless: true, Size: 16, IntervalUs: 1000}
	failing         = &echo.Plan{Count: 10, FailAfter: 5}
	failingBusiness = &echo.Plan{Count: 10, FailAfter: 5, BizCode: 4001, IntervalUs: 20_000}
)

var scenarios = map[string]func(*outcome, peer) error{
	"order": func(o *outcome, p peer) error {
		return o.downloadAll(p, &echo.Plan{Count: many, Size: 16}, func(int64) {})
	},
	"slow": func(o *outcome, p peer) error {
		return o.downloadAll(p, &echo.Plan{Count: 3000, Size: 1024}, func(seq int64) {
			if seq%10 == 0 {
				time.Sleep(time.Millisecond)
			}
		})
	},
	"bidi":      func(o *outcome, p peer) error { return o.echo(p, context.Background(), many) },
	"halfclose": func(o *outcome, p peer) error { return o.halfClose(p) },
	"upload":    func(o *outcome, p peer) error { return o.upload(p) },
	"error":     func(o *outcome, p peer) error { return o.failing(p, failing) },
	// With a pause between its messages: a Kitex client that has the end of a TTHeader stream with a business error
	// throws away what it has not given to its caller yet.
	"bizerror": func(o *outcome, p peer) error {
		if err := o.failing(p, failingBusiness); err != nil {
			return err
		}
		if o.BizCode == nil || *o.BizCode != 4001 || *o.BizMessage != "no more" {
			return errors.New("that is not the business error")
		}
		return nil
	},
	"cancel": func(o *outcome, p peer) error {
		ctx, cancel := context.WithCancelCause(context.Background())
		return o.cancel(p, ctx, func() { cancel(errors.New("had enough")) })
	},
	// Kitex takes the cause of a cancellation from the error of a context, and from no context of Go's own.
	"cancelcause": func(o *outcome, p peer) error {
		ctx, cancel := context.WithCancel(context.Background())
		return o.cancel(p, withReason{ctx, errors.New("had enough")}, cancel)
	},
	"deadline": func(o *outcome, p peer) error {
		ctx, cancel := context.WithTimeout(context.Background(), 300*time.Millisecond)
		defer cancel()
		return o.until(p, ctx, 300*time.Millisecond, endless)
	},
	// Nothing is sent for longer than the client waits for a message.
	"recvtimeout": func(o *outcome, p peer) error {
		silent := &echo.Plan{Endless: true, IntervalUs: 5_000_000}
		timeout := streaming.TimeoutConfig{Timeout: 300 * time.Millisecond}
		return o.until(p, context.Background(), 300*time.Millisecond, silent, streamcall.WithRecvTimeoutConfig(timeout))
	},
	"shutdown": func(o *outcome, p peer) error { return o.until(p, context.Background(), 0, endless) },
	"metadata": func(o *outcome, p peer) error {
		ctx := metainfo.WithPersistentValue(context.Background(), "pkey", "pval")
		ctx = metainfo.WithValue(ctx, "tkey", "tval")
		if o.Protocol == "framed" || o.Protocol == "ttheader-unary" {
			return o.ping(p, ctx)
		}
		return o.echo(p, ctx, 1)
	},
	"ping": func(o *outcome, p peer) error { return o.ping(p, context.Background()) },
}

// An error of one's own for a context that is done.
type withReason struct {
	context.Context
	reason error
}

func (c withReason) Err() error {
	if c.Context.Err() == nil {
		return nil
	}
	return c.reason
}

// The code of the error that ends a scenario, in gRPC and in TTHeader Streaming.
var codes = map[string]struct{ grpc, ttheader int32 }{
	"cancel":      {1, 12007},
	"cancelcause": {13, 12011},
	"deadline":    {4, 12015},
	"recvtimeout": {17, 12014},
	// A Kitex server ends no TTHeader stream before its connection.
	"shutdown": {14, 0},
}
