// Command whep-count opens WHEP sessions and counts what they are sent, without decoding any of it.
//
//	whep-count -url http://127.0.0.1:8080/test/whep -n 8 -seconds 20 -json
//
// With -control it runs until its standard input ends, and answers each line there with the counters so far as
// one line of JSON, so that who measures something else at the same time chooses the moments.
package main

import (
	"bufio"
	"context"
	"encoding/json"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"slices"
	"sync"
	"syscall"
	"time"
)

type options struct {
	url, token, ip, codecs     string
	count                      int
	stagger, duration          time.Duration
	loss                       float64
	remb                       int
	silentAfter                time.Duration
	nack, rtx, rtcp, pli, ipv6 bool
	candidates, connect, bye   bool
	channel, control, asJSON   bool
	video, telemetry           bool
	operate, group             string
	hz                         float64
}

func parse() *options {
	o := &options{}
	var seconds float64
	flag.StringVar(&o.url, "url", "", "WHEP address of the camera")
	flag.StringVar(&o.token, "token", "", "bearer token")
	flag.IntVar(&o.count, "n", 1, "how many sessions")
	flag.Float64Var(&seconds, "seconds", 10, "how long, from the first offer")
	flag.DurationVar(&o.stagger, "stagger", 50*time.Millisecond, "pause between the offers")
	flag.StringVar(&o.codecs, "codecs", "h264", "what the offer carries: h264, high, chrome, mode0, nofmtp, h265, vp8")
	flag.StringVar(&o.ip, "ip", "", "gather candidates from this address only")
	flag.BoolVar(&o.ipv6, "ipv6", false, "gather IPv6 candidates too")
	flag.Float64Var(&o.loss, "loss", 0, "share of the received packets to drop before they are counted, 0 to 1")
	flag.BoolVar(&o.nack, "nack", true, "ask again for missing packets")
	flag.BoolVar(&o.rtx, "rtx", true, "offer RTX")
	flag.BoolVar(&o.pli, "pli", false, "ask for a keyframe at the start, and each second until a whole one has come")
	flag.IntVar(&o.remb, "remb", 0, "claim this many kbit/s once a second; 0: no REMB")
	flag.BoolVar(&o.rtcp, "rtcp", true, "send RTCP at all")
	flag.DurationVar(&o.silentAfter, "silent-after", -1, "send no more RTCP after this time; negative: never silent")
	flag.BoolVar(&o.candidates, "candidates", true, "put candidates in the offer (none follow)")
	flag.BoolVar(&o.connect, "connect", true, "use the answer; false: leave the server waiting")
	flag.BoolVar(&o.channel, "channel", false, "open the data channel `session` as a page does")
	flag.BoolVar(&o.video, "video", true, "offer a video line")
	flag.BoolVar(&o.telemetry, "telemetry", false, "open the data channels `events` and `telemetry`, and count what comes")
	flag.StringVar(&o.operate, "operate", "", "drive DEVICE.AXIS as standard input says, instead of counting; see operate.go")
	flag.StringVar(&o.group, "group", "drive", "with -operate: the group")
	flag.Float64Var(&o.hz, "hz", 50, "with -operate: set-points a second")
	flag.BoolVar(&o.bye, "delete", true, "DELETE the sessions at the end")
	flag.BoolVar(&o.control, "control", false, "answer each line of standard input; end with it")
	flag.BoolVar(&o.asJSON, "json", false, "print JSON, with every session")
	flag.Parse()
	o.duration = time.Duration(seconds * float64(time.Second))
	if o.url == "" || flag.NArg() > 0 || o.hz <= 0 {
		flag.Usage()
		os.Exit(2)
	}
	return o
}

// summary is what one line of JSON holds. Medians and worst cases are over sessions where the thing happened.
type summary struct {
	At             float64  `json:"at_s"` // since the first offer
	Open           int      `json:"open"` // sessions that have got a packet
	Packets        int64    `json:"packets"`
	Bytes          int64    `json:"bytes"`
	Frames         int64    `json:"frames"`
	Keyframes      int64    `json:"keyframes"`
	Lost           int64    `json:"lost"`
	Missing        int      `json:"missing"`
	FirstKeyMedian float64  `json:"first_keyframe_ms_median"`
	FirstKeyWorst  float64  `json:"first_keyframe_ms_worst"`
	Sessions       []result `json:"sessions"`
}

func summarize(sessions []*session, since time.Time) summary {
	sum := summary{At: time.Since(since).Seconds(), Sessions: []result{}}
	var firstKeys []float64
	for _, s := range sessions {
		r := s.snapshot()
		sum.Sessions = append(sum.Sessions, r)
		if r.Packets > 0 {
			sum.Open++
		}
		if r.FirstKey > 0 {
			firstKeys = append(firstKeys, r.FirstKey)
		}
		sum.Packets += r.Packets
		sum.Bytes += r.Bytes
		sum.Frames += r.Frames
		sum.Keyframes += r.Keyframes
		sum.Lost += r.Lost
		sum.Missing += r.Missing
	}
	if slices.Sort(firstKeys); len(firstKeys) > 0 {
		sum.FirstKeyMedian, sum.FirstKeyWorst = firstKeys[len(firstKeys)/2], firstKeys[len(firstKeys)-1]
	}
	return sum
}

func (s summary) print(o *options) {
	if o.asJSON || o.control {
		_ = json.NewEncoder(os.Stdout).Encode(s)
		return
	}
	fmt.Printf("%d of %d sessions, %d packets, %d frames, %d keyframes, %d lost, first keyframe %.0f ms (worst %.0f)\n",
		s.Open, len(s.Sessions), s.Packets, s.Frames, s.Keyframes, s.Lost+int64(s.Missing), s.FirstKeyMedian, s.FirstKeyWorst)
	for i, r := range s.Sessions {
		if r.Error != "" {
			fmt.Printf("session %d: %s\n", i, r.Error)
		}
	}
}

func main() {
	o := parse()
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGINT, syscall.SIGTERM)
	defer stop()
	if o.operate != "" {
		os.Exit(operate(ctx, o))
	}
	lines := make(chan struct{})
	if o.control {
		go func() {
			defer close(lines)
			for input := bufio.NewScanner(os.Stdin); input.Scan(); {
				lines <- struct{}{}
			}
		}()
	} else {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeout(ctx, o.duration)
		defer cancel()
	}

	began := time.Now()
	var started []*session
	var running sync.WaitGroup
	next := time.NewTicker(max(o.stagger, time.Microsecond))
	defer next.Stop()
	serving, end := context.WithCancel(ctx)
	for open := true; open; {
		select {
		case <-next.C:
			s := newSession(o)
			started = append(started, s)
			running.Go(func() { s.run(serving) })
			if len(started) == o.count {
				next.Stop()
			}
		case _, open = <-lines:
			if open {
				summarize(started, began).print(o)
			}
		case <-ctx.Done():
			open = false
		}
	}
	last := summarize(started, began)
	end()
	running.Wait()
	for _, s := range started {
		running.Go(s.close)
	}
	running.Wait()
	last.print(o)
}
