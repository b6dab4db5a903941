package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"net/http"
	"time"

	"github.com/bytedance/sonic"
	"github.com/cloudwego/hertz/pkg/app"
	hertz "github.com/cloudwego/hertz/pkg/app/server"
	"github.com/cloudwego/hertz/pkg/protocol/sse"

	"flumen.dev/bench/peers/kitex_gen/chain"
	"flumen.dev/bench/peers/kitex_gen/chain/model"
)

// chainService answers by TTHeader Streaming and by Thrift over gRPC, on one port.
func chainService(listener net.Listener) {
	err := model.NewServer(&generator{}, kitexOptions(listener)...).Run()
	if err != nil && !errors.Is(err, context.DeadlineExceeded) {
		fail(err)
	}
}

type generator struct{}

func (*generator) Generate(ctx context.Context, prompt *chain.Prompt, stream chain.Model_GenerateServer) error {
	text := make([]byte, prompt.Size)
	for i := range text {
		text[i] = 'a' + byte(i%26)
	}
	interval, due := time.Duration(prompt.IntervalUs)*time.Microsecond, time.Now()
	for range prompt.Count {
		if err := stream.Send(ctx, &chain.Token{Text: text}); err != nil {
			return err
		}
		if interval == 0 {
			continue
		}
		due = due.Add(interval)
		select {
		case <-time.After(time.Until(due)):
		case <-ctx.Done():
			return ctx.Err()
		}
	}
	return nil
}

// chainGateway serves POST /generate with the tokens of the service as chunks of OpenAI's chat completions.
func chainGateway(listener net.Listener, service, transport, pool string) {
	gateway := gateway{model.MustNewClient("Model", clientOptions(transport, service, pool, 0)...)}
	// Without the second, a client that is gone is noticed by the next write at the earliest.
	server := hertz.New(hertz.WithListener(listener), hertz.WithSenseClientDisconnection(true),
		hertz.WithDisablePrintRoute(true), hertz.WithExitWaitTime(100*time.Millisecond))
	server.POST("/generate", gateway.generate)
	server.Spin()
}

type gateway struct{ model model.Client }

type request struct {
	Count      int64 `json:"count"`
	Size       int32 `json:"size"`
	IntervalUs int32 `json:"interval_us"`
}

func (g gateway) generate(ctx context.Context, c *app.RequestContext) {
	var asked request
	if err := c.BindJSON(&asked); err != nil {
		c.String(http.StatusBadRequest, err.Error())
		return
	}
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	prompt := &chain.Prompt{Count: asked.Count, Size: asked.Size, IntervalUs: asked.IntervalUs}
	stream, err := g.model.Generate(ctx, prompt)
	if err != nil {
		c.String(http.StatusBadGateway, err.Error())
		return
	}
	events, chunks := sse.NewWriter(c), newChunks()
	for {
		token, err := stream.Recv(ctx)
		if errors.Is(err, io.EOF) {
			for _, last := range chunks.end() {
				_ = events.WriteEvent("", "", last)
			}
			_ = events.Close()
			return
		}
		if err == nil {
			err = events.WriteEvent("", "", chunks.of(string(token.Text)))
		}
		if err != nil {
			// Kitex tells the service when it is asked for more and has none, or five seconds later.
			cancel()
			for err = nil; err == nil; {
				_, err = stream.Recv(ctx)
			}
			return
		}
	}
}

// chunks are the events of one answer.
type chunks struct {
	ID      string   `json:"id"`
	Object  string   `json:"object"`
	Created int64    `json:"created"`
	Model   string   `json:"model"`
	Choices []choice `json:"choices"`
	Usage   *spent   `json:"usage,omitempty"`
	tokens  int64
}

type choice struct {
	Index  int     `json:"index"`
	Delta  delta   `json:"delta"`
	Finish *string `json:"finish_reason"`
}

type delta struct {
	Role    string `json:"role,omitempty"`
	Content string `json:"content,omitempty"`
}

type spent struct {
	Prompt     int64 `json:"prompt_tokens"`
	Completion int64 `json:"completion_tokens"`
	Total      int64 `json:"total_tokens"`
}

func newChunks() *chunks {
	id := fmt.Sprintf("chatcmpl-%016x%016x", rand.Uint64(), rand.Uint64())
	return &chunks{ID: id, Object: "chat.completion.chunk", Created: time.Now().Unix(), Model: "count=100,size=64,interval_us=0",
		Choices: []choice{{Delta: delta{Role: "assistant"}}}}
}

func (c *chunks) of(text string) []byte {
	c.Choices[0].Delta.Content = text
	chunk := c.written()
	c.Choices[0].Delta.Role = ""
	c.tokens++
	return chunk
}

func (c *chunks) end() [][]byte {
	stop := "stop"
	c.Choices[0] = choice{Finish: &stop}
	last := c.written()
	c.Choices, c.Usage = []choice{}, &spent{1, c.tokens, 1 + c.tokens}
	return [][]byte{last, c.written(), []byte("[DONE]")}
}

func (c *chunks) written() []byte {
	chunk, err := sonic.Marshal(c)
	if err != nil {
		fail(err)
	}
	return chunk
}
