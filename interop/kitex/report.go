package main

import (
	"context"
	"errors"
	"sync/atomic"
	"time"

	"github.com/bytedance/gopkg/cloud/metainfo"
	"github.com/cloudwego/kitex/pkg/kerrors"
	"github.com/cloudwego/kitex/pkg/remote/trans/nphttp2/metadata"
	"github.com/cloudwego/kitex/pkg/remote/trans/nphttp2/status"
	"github.com/cloudwego/kitex/pkg/remote/trans/ttstream"
	"github.com/cloudwego/kitex/pkg/rpcinfo"
)

// What the server saw of one call.
type report struct {
	Method   string `json:"method"`
	Protocol string `json:"protocol"`
	From     string `json:"from"`
	Sent     int64  `json:"sent"`
	Received int64  `json:"received"`
	failure
	// Why the context of the call was done before the handler ended.
	Cause         *string `json:"cause"`
	CauseCode     *int32  `json:"cause_code"`
	MsSinceCancel *int64  `json:"ms_since_cancel"`
	// At the start.
	DeadlineMs *int64   `json:"deadline_ms"`
	Metadata   received `json:"metadata"`

	cancelled atomic.Int64
	atEnd     func()
}

// Metadata as Kitex gives it to a handler, and the headers as they came.
type received struct {
	Transit map[string]string   `json:"transit"`
	Persist map[string]string   `json:"persist"`
	Headers map[string][]string `json:"headers"`
}

// An error: its text, its code in ttstream or gRPC, and the code of a business error.
type failure struct {
	Error   *string `json:"error"`
	Code    *int32  `json:"code"`
	BizCode *int32  `json:"biz_code"`
	// The text of a business error.
	BizMessage *string `json:"biz_message"`
}

func begin(ctx context.Context, method string) *report {
	report := &report{Method: method, atEnd: func() {}}
	if info := rpcinfo.GetRPCInfo(ctx); info != nil {
		report.Protocol = info.Config().TransportProtocol().String()
		report.From = info.From().ServiceName()
	}
	if deadline, ok := ctx.Deadline(); ok {
		left := time.Until(deadline).Milliseconds()
		report.DeadlineMs = &left
	}
	report.Metadata.Transit = metainfo.GetAllValues(ctx)
	report.Metadata.Persist = metainfo.GetAllPersistentValues(ctx)
	if headers, ok := metadata.FromIncomingContext(ctx); ok {
		report.Metadata.Headers = headers
	} else if headers, ok := ctx.Value(frameHeaders{}).(map[string][]string); ok {
		report.Metadata.Headers = headers
	}
	context.AfterFunc(ctx, func() { report.cancelled.CompareAndSwap(0, time.Now().UnixMilli()) })
	return report
}

// end is to be called before the handler returns, as Kitex cancels the context after that.
func (r *report) end(ctx context.Context, err error) {
	r.atEnd()
	r.failure = describe(err)
	if cause := ctx.Err(); cause != nil {
		described := describe(cause)
		r.Cause, r.CauseCode = described.Error, described.Code
		now := time.Now().UnixMilli()
		r.cancelled.CompareAndSwap(0, now)
		since := now - r.cancelled.Load()
		r.MsSinceCancel = &since
	}
	say(r)
}

func describe(err error) (failure failure) {
	if err == nil {
		return
	}
	text := err.Error()
	failure.Error = &text
	if biz, ok := kerrors.FromBizStatusError(err); ok {
		code, message := biz.BizStatusCode(), biz.BizMessage()
		failure.BizCode, failure.BizMessage = &code, &message
	}
	var frame *ttstream.Exception
	var typed interface{ TypeId() int32 }
	var grpc interface{ GRPCStatus() *status.Status }
	if errors.As(err, &frame) {
		code := frame.TypeId()
		failure.Code = &code
	} else if errors.As(err, &grpc) {
		code := int32(grpc.GRPCStatus().Code())
		failure.Code = &code
	} else if errors.As(err, &typed) {
		code := typed.TypeId()
		failure.Code = &code
	}
	return
}

// Keeps the string headers of a header frame of TTHeader Streaming.
type frameHeaders struct{}

func (frameHeaders) OnReadStream(ctx context.Context, ints ttstream.IntHeader, strings ttstream.StrHeader) (context.Context, error) {
	headers := map[string][]string{}
	for key, value := range strings {
		headers[key] = []string{value}
	}
	return context.WithValue(ctx, frameHeaders{}, headers), nil
}
