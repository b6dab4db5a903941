package main

import (
	"context"
	"fmt"
	"math/bits"
	"os"
	"runtime"
	"sync"
	"syscall"
	"time"
)

const warmUp = time.Second

type result struct {
	Messages  int64   `json:"messages"`
	Seconds   float64 `json:"seconds"`
	PerSecond float64 `json:"per_second"`
	P50Us     float64 `json:"p50_us"`
	P99Us     float64 `json:"p99_us"`
	Errors    int64   `json:"errors"`
	// Of this process, while it measured.
	CpuSeconds float64 `json:"cpu_seconds"`
}

// load has each stream send one message, wait for its echo, and send the next.
func load(open open, concurrency int, duration time.Duration, size int) result {
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	start := time.Now().Add(warmUp)
	end := start.Add(duration)
	players := make([]player, concurrency)
	var playing sync.WaitGroup
	for i := range players {
		playing.Go(func() { players[i].play(ctx, open, start, end, make([]byte, size)) })
	}
	time.Sleep(time.Until(start))
	before := cpuTime()
	time.Sleep(time.Until(end))
	cpu := cpuTime() - before
	playing.Wait()
	// Kitex closes a client to which nobody refers, and its streams do not.
	runtime.KeepAlive(open)

	var all player
	for i := range players {
		all.add(&players[i])
	}
	return result{
		Messages:   all.messages,
		Seconds:    duration.Seconds(),
		PerSecond:  float64(all.messages) / duration.Seconds(),
		P50Us:      all.quantile(0.50),
		P99Us:      all.quantile(0.99),
		Errors:     all.errors,
		CpuSeconds: cpu.Seconds(),
	}
}

// How long the exchanges of one stream took. A bucket holds what is the same in its six leading bits, so that a quantile
// is off by 3 percent at most.
type player struct {
	messages int64
	errors   int64
	buckets  [64 * 32]uint32
}

func (p *player) play(ctx context.Context, open open, start, end time.Time, payload []byte) {
	exchange, err := open(ctx)
	if err != nil {
		p.failed(err)
		return
	}
	sent := time.Now()
	for seq := int64(0); sent.Before(end); seq++ {
		echoed, size, err := exchange(seq, payload)
		if err == nil && (echoed != seq || size != len(payload)) {
			err = fmt.Errorf("message %d of %d bytes came back as %d of %d", seq, len(payload), echoed, size)
		}
		if err != nil {
			p.failed(err)
			return
		}
		now := time.Now()
		if sent.After(start) && now.Before(end) {
			p.messages++
			p.buckets[bucket(uint64(now.Sub(sent)))]++
		}
		sent = now
	}
}

var firstError sync.Once

func (p *player) failed(err error) {
	p.errors++
	firstError.Do(func() { fmt.Fprintln(os.Stderr, err) })
}

func (p *player) add(other *player) {
	p.messages += other.messages
	p.errors += other.errors
	for i, n := range other.buckets {
		p.buckets[i] += n
	}
}

func bucket(ns uint64) int {
	if ns < 64 {
		return int(ns)
	}
	shift := bits.Len64(ns) - 6
	return shift*32 + int(ns>>shift)
}

// quantile is in microseconds.
func (p *player) quantile(q float64) float64 {
	rank := int64(q * float64(p.messages))
	var seen int64
	for i, n := range p.buckets {
		seen += int64(n)
		if seen > rank {
			if i < 64 {
				return float64(i) / 1000
			}
			shift := i/32 - 1
			return float64(uint64(i-shift*32)<<shift) / 1000
		}
	}
	return 0
}

func cpuTime() time.Duration {
	var usage syscall.Rusage
	_ = syscall.Getrusage(syscall.RUSAGE_SELF, &usage)
	return time.Duration(usage.Utime.Nano() + usage.Stime.Nano())
}
