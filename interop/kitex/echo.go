package main

import (
	"context"
	"errors"
	"io"
	"strconv"
	"time"

	"github.com/cloudwego/kitex/pkg/kerrors"
	"github.com/cloudwego/kitex/pkg/streaming"

	"flumen.dev/interop/kitex/kitex_gen/echo"
)

// The handlers, once for both protocols. The structs that come of echo.proto have the fields of those that come of
// echo.thrift, so their adapter converts pointers and nothing else.
type handlers struct{}

type (
	receive func() (*echo.Message, error)
	send    func(*echo.Message) error
)

func (handlers) bidi(ctx context.Context, stream streaming.ServerStream, receive receive, send send) (err error) {
	report := begin(ctx, "Bidi")
	defer func() { report.end(ctx, err) }()
	answerWithMetadata(stream, report)
	for {
		message, err := receive()
		if errors.Is(err, io.EOF) {
			return nil
		} else if err != nil {
			return err
		}
		report.Received++
		if err := send(message); err != nil {
			return err
		}
		report.Sent++
	}
}

func (handlers) download(ctx context.Context, stream streaming.ServerStream, plan *echo.Plan, send send) (err error) {
	report := begin(ctx, "Download")
	report.Received = 1
	defer func() { report.end(ctx, err) }()
	answerWithMetadata(stream, report)
	interval := time.Duration(plan.IntervalUs) * time.Microsecond
	for seq := int64(0); plan.Endless || seq < plan.Count; seq++ {
		if plan.FailAfter > 0 && seq >= plan.FailAfter {
			return noMore(plan)
		}
		if err := send(&echo.Message{Seq: seq, Payload: payload(seq, plan.Size)}); err != nil {
			return err
		}
		report.Sent++
		if interval == 0 {
			continue
		}
		select {
		case <-time.After(interval):
		case <-ctx.Done():
			return ctx.Err()
		}
	}
	if plan.FailAfter > 0 {
		return noMore(plan)
	}
	return nil
}

func (handlers) upload(ctx context.Context, stream streaming.ServerStream, receive receive, answer func(*echo.Summary) error) (err error) {
	report := begin(ctx, "Upload")
	defer func() { report.end(ctx, err) }()
	answerWithMetadata(stream, report)
	summary := &echo.Summary{InOrder: true}
	for {
		message, err := receive()
		if errors.Is(err, io.EOF) {
			report.Sent++
			return answer(summary)
		} else if err != nil {
			return err
		}
		report.Received++
		summary.InOrder = summary.InOrder && message.Seq == summary.Count
		summary.Count++
		summary.Bytes += int64(len(message.Payload))
	}
}

func (handlers) ping(ctx context.Context, message *echo.Message) (*echo.Message, error) {
	report := begin(ctx, "Ping")
	report.Received, report.Sent = 1, 1
	report.end(ctx, nil)
	return message, nil
}

func noMore(plan *echo.Plan) error {
	if plan.BizCode != 0 {
		return kerrors.NewBizStatusError(plan.BizCode, "no more")
	}
	return errors.New("no more")
}

// Bytes that differ from message to message.
func payload(seq int64, size int32) []byte {
	payload := make([]byte, size)
	for i := range payload {
		payload[i] = byte(seq + int64(i))
	}
	return payload
}

// A header and a trailer, so that the other side has some to read.
func answerWithMetadata(stream streaming.ServerStream, report *report) {
	_ = stream.SetHeader(streaming.Header{"served-by": "kitex"})
	report.atEnd = func() { _ = stream.SetTrailer(streaming.Trailer{"sent": strconv.FormatInt(report.Sent, 10)}) }
}
