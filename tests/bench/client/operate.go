package main

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"os"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/pion/webrtc/v4"
	"golang.org/x/sys/unix"
)

// With `count` each set-point has a value of its own, by which it is found again where it is applied.
const countFrom, countStep, countWrap = 0.2, 1e-5, 50_000

// operator drives one axis by way of the data channels of edgeagent/wire/control.py. What comes on `events` is printed,
// a line of JSON each; what to do is read from standard input, a command a line:
//
//	{…}                 send this on `events`
//	drive LEASE VALUE   from now on send set-points with this value, or with `count`
//	pause               send none
//	freeze              from now on name the picture that is the newest now; `thaw` ends that
//	close               close the channel `control`
//	report              print all set-points and answers since the last report
//
// All times are seconds of CLOCK_MONOTONIC, which is one clock for all programs of a machine.
type operator struct {
	options         *options
	session         *session
	device, axis    string
	control, events *webrtc.DataChannel

	mu     sync.Mutex
	open   int
	lease  int64 // 0: pause
	value  float64
	count  bool
	seq    int64
	frozen *uint32
	sent   []sentPoint
	acks   []heardAck
}

type setPoint struct {
	T      string                        `json:"t"`
	Group  string                        `json:"group"`
	Lease  int64                         `json:"lease"`
	Seq    int64                         `json:"seq"`
	At     float64                       `json:"at"`
	RTP    *uint32                       `json:"rtp,omitempty"`
	Mid    string                        `json:"mid,omitempty"`
	Values map[string]map[string]float64 `json:"values"`
}

type sentPoint struct {
	Seq   int64   `json:"seq"`
	At    float64 `json:"at"`
	Value float64 `json:"value"`
}

type heardAck struct {
	Seq   int64    `json:"seq"`
	At    float64  `json:"at"` // when the answer came
	Taken bool     `json:"taken"`
	Why   string   `json:"why"`
	Late  float64  `json:"late_ms"`
	Age   *float64 `json:"age_ms"`
}

func monotonic() float64 {
	var t unix.Timespec
	_ = unix.ClockGettime(unix.CLOCK_MONOTONIC, &t) // fails for unknown clocks only
	return float64(t.Sec) + float64(t.Nsec)/1e9
}

// say prints one line; a reader who is gone needs none.
func say(what string, more map[string]any) {
	line := map[string]any{"event": what, "at": monotonic()}
	for key, value := range more {
		line[key] = value
	}
	_ = json.NewEncoder(os.Stdout).Encode(line)
}

// operate serves until standard input ends or the connection is lost; returns the exit status.
func operate(ctx context.Context, o *options) int {
	device, axis, found := strings.Cut(o.operate, ".")
	if !found {
		fmt.Fprintln(os.Stderr, "-operate wants DEVICE.AXIS")
		return 2
	}
	op := &operator{options: o, session: newSession(o), device: device, axis: axis}
	op.session.prepare = op.channels
	serving, end := context.WithCancel(ctx)
	defer end()
	go op.session.run(serving)
	go op.pump(serving)
	lines := make(chan string)
	go func() {
		defer close(lines)
		for input := bufio.NewScanner(os.Stdin); input.Scan(); {
			lines <- input.Text()
		}
	}()
	for {
		select {
		case line, open := <-lines:
			if !open {
				op.session.close()
				return 0
			}
			if err := op.obey(line); err != nil {
				say("error", map[string]any{"text": err.Error(), "line": line})
			}
		case <-ctx.Done():
			return 0
		}
	}
}

func (op *operator) channels(connection *webrtc.PeerConnection) error {
	op.mu.Lock()
	defer op.mu.Unlock()
	ordered, retransmits := false, uint16(0)
	loose := &webrtc.DataChannelInit{Ordered: &ordered, MaxRetransmits: &retransmits}
	for label, init := range map[string]*webrtc.DataChannelInit{"control": loose, "events": nil, "telemetry": loose} {
		channel, err := connection.CreateDataChannel(label, init)
		if err != nil {
			return err
		}
		channel.OnOpen(op.opened)
		switch label {
		case "control":
			op.control = channel
			channel.OnMessage(op.answered)
		case "events":
			op.events = channel
			channel.OnMessage(func(m webrtc.DataChannelMessage) {
				say("message", map[string]any{"message": json.RawMessage(m.Data)})
			})
		}
	}
	return nil
}

func (op *operator) opened() {
	op.mu.Lock()
	op.open++
	all := op.open == 3
	op.mu.Unlock()
	if all {
		say("open", nil)
	}
}

func (op *operator) answered(m webrtc.DataChannelMessage) {
	at := monotonic()
	var ack heardAck
	if json.Unmarshal(m.Data, &ack) != nil {
		return
	}
	ack.At = at
	op.mu.Lock()
	op.acks = append(op.acks, ack)
	op.mu.Unlock()
}

func (op *operator) pump(ctx context.Context) {
	ticker := time.NewTicker(time.Duration(float64(time.Second) / op.options.hz))
	defer ticker.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-ticker.C:
			op.send()
		}
	}
}

// send sends one set-point, unless there is a pause. A channel that takes none loses it, as the network might.
func (op *operator) send() {
	op.mu.Lock()
	defer op.mu.Unlock()
	if op.lease == 0 || op.control == nil {
		return
	}
	op.seq++
	value := op.value
	if op.count {
		value = countFrom + float64(op.seq%countWrap)*countStep
	}
	point := setPoint{
		T: "set", Group: op.options.group, Lease: op.lease, Seq: op.seq,
		Values: map[string]map[string]float64{op.device: {op.axis: value}},
	}
	if op.options.video {
		if point.RTP = op.frozen; point.RTP == nil {
			point.RTP = op.session.newestPicture()
		}
		if point.RTP != nil {
			point.Mid = "0" // the first line of our offer
		}
	}
	at := monotonic()
	point.At = at * 1000
	text, err := json.Marshal(point)
	if err == nil && op.control.SendText(string(text)) == nil {
		op.sent = append(op.sent, sentPoint{op.seq, at, value})
	}
}

func (op *operator) obey(line string) error {
	op.mu.Lock()
	defer op.mu.Unlock()
	words := strings.Fields(line)
	switch {
	case len(words) == 0:
	case strings.HasPrefix(line, "{"):
		say("sent", nil)
		return op.events.SendText(line)
	case words[0] == "drive" && len(words) == 3:
		lease, err := strconv.ParseInt(words[1], 10, 64)
		if err != nil {
			return err
		}
		if op.count = words[2] == "count"; !op.count {
			if op.value, err = strconv.ParseFloat(words[2], 64); err != nil {
				return err
			}
		}
		op.lease = lease
	case words[0] == "pause":
		op.lease = 0
	case words[0] == "freeze":
		op.frozen = op.session.newestPicture()
		say("frozen", nil)
	case words[0] == "thaw":
		op.frozen = nil
	case words[0] == "close":
		say("closing", nil)
		return op.control.Close()
	case words[0] == "report":
		say("report", map[string]any{"points": op.sent, "acks": op.acks})
		op.sent, op.acks = nil, nil
	default:
		return fmt.Errorf("no such command")
	}
	return nil
}
