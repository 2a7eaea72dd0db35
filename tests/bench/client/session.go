package main

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strings"
	"sync"
	"time"

	"github.com/pion/rtcp"
	"github.com/pion/webrtc/v4"
)

// session is one WHEP viewer (draft-ietf-wish-whep) that counts what it is sent.
type session struct {
	options  *options
	impair   impairment
	pc       *webrtc.PeerConnection
	resource string
	prepare  func(*webrtc.PeerConnection) error // adds channels before the offer

	mu     sync.Mutex
	count  counter
	result result
}

// result is one session's part of the report. Times are in ms since the session began, 0 where it never happened.
type result struct {
	Status      int     `json:"status"` // of the POST; 0: no answer
	Error       string  `json:"error,omitempty"`
	State       string  `json:"state"` // of the peer connection
	Answer      float64 `json:"answer_ms"`
	Connected   float64 `json:"connected_ms"`
	Closed      float64 `json:"closed_ms"` // when the connection first failed, was lost or closed by the other side
	FirstPacket float64 `json:"first_packet_ms"`
	FirstKey    float64 `json:"first_keyframe_ms"` // when a whole keyframe had come
	LastPacket  float64 `json:"last_packet_ms"`
	LongestGap  float64 `json:"longest_gap_ms"` // between frames
	Packets     int64   `json:"packets"`
	Bytes       int64   `json:"bytes"` // RTP with its header
	Frames      int64   `json:"frames"`
	Keyframes   int64   `json:"keyframes"`
	Lost        int64   `json:"lost"`    // never came, whatever was asked
	Missing     int     `json:"missing"` // not there yet
	Duplicates  int64   `json:"duplicates"`
	RTX         int64   `json:"rtx"`
	Nacked      int64   `json:"nacked"`
	Dropped     int64   `json:"dropped"` // by -loss
	Profile     string  `json:"fmtp,omitempty"`
	Told        int64   `json:"told"` // messages on `telemetry`
	ToldBytes   int64   `json:"told_bytes"`
}

func ms(d time.Duration) float64 { return float64(d.Microseconds()) / 1000 }

func newSession(o *options) *session {
	s := &session{options: o}
	now := time.Now()
	s.count.start = now
	s.impair.start, s.impair.loss, s.impair.silentAfter = now, o.loss, o.silentAfter
	if !o.rtcp {
		s.impair.silentAfter = 0
	}
	s.prepare = s.channels
	return s
}

func (s *session) set(change func(*result)) {
	s.mu.Lock()
	defer s.mu.Unlock()
	change(&s.result)
}

// run opens the session and serves it until ctx ends; what went wrong is in the result.
func (s *session) run(ctx context.Context) {
	if err := s.open(ctx); err != nil {
		s.set(func(r *result) { r.Error = err.Error() })
		return
	}
	report, nack := time.NewTicker(time.Second), time.NewTicker(20*time.Millisecond)
	defer report.Stop()
	defer nack.Stop()
	if !s.options.nack {
		nack.Stop()
	}
	for {
		select {
		case <-ctx.Done():
			return
		case <-nack.C:
			s.askAgain()
		case <-report.C:
			s.estimate()
			s.insist()
		}
	}
}

func (s *session) open(ctx context.Context) (err error) {
	if s.pc, err = newConnection(s.options, &s.impair); err != nil {
		return err
	}
	s.pc.OnConnectionStateChange(s.changed)
	s.pc.OnTrack(s.received)
	if err = s.prepare(s.pc); err != nil {
		return err
	}
	offer, err := s.pc.CreateOffer(nil)
	if err != nil {
		return err
	}
	gathered := webrtc.GatheringCompletePromise(s.pc)
	if err = s.pc.SetLocalDescription(offer); err != nil {
		return err
	}
	<-gathered
	sdp := s.pc.LocalDescription().SDP
	if !s.options.candidates {
		sdp = withoutCandidates(sdp)
	}
	answer, err := s.post(ctx, sdp)
	s.set(func(r *result) { r.Answer = ms(time.Since(s.count.start)) })
	if err != nil || !s.options.connect {
		return err
	}
	return s.pc.SetRemoteDescription(webrtc.SessionDescription{Type: webrtc.SDPTypeAnswer, SDP: answer})
}

// channels opens those that -channel and -telemetry ask for.
func (s *session) channels(connection *webrtc.PeerConnection) error {
	if s.options.channel {
		if _, err := connection.CreateDataChannel("session", nil); err != nil {
			return err
		}
	}
	if !s.options.telemetry {
		return nil
	}
	if _, err := connection.CreateDataChannel("events", nil); err != nil {
		return err
	}
	ordered, retransmits := false, uint16(0)
	told, err := connection.CreateDataChannel("telemetry", &webrtc.DataChannelInit{Ordered: &ordered, MaxRetransmits: &retransmits})
	if err != nil {
		return err
	}
	told.OnMessage(func(m webrtc.DataChannelMessage) {
		s.set(func(r *result) { r.Told, r.ToldBytes = r.Told+1, r.ToldBytes+int64(len(m.Data)) })
	})
	return nil
}

// post sends the offer and returns the answer.
func (s *session) post(ctx context.Context, sdp string) (string, error) {
	request, err := http.NewRequestWithContext(ctx, http.MethodPost, s.options.url, strings.NewReader(sdp))
	if err != nil {
		return "", err
	}
	request.Header.Set("Content-Type", "application/sdp")
	s.authorize(request)
	response, err := http.DefaultClient.Do(request)
	if err != nil {
		return "", err
	}
	defer response.Body.Close()
	body, err := io.ReadAll(response.Body)
	s.set(func(r *result) { r.Status = response.StatusCode })
	if err != nil {
		return "", err
	}
	if response.StatusCode != http.StatusCreated {
		return "", fmt.Errorf("%s: %s", response.Status, strings.TrimSpace(string(body)))
	}
	if location, err := response.Request.URL.Parse(response.Header.Get("Location")); err == nil {
		s.resource = location.String()
	}
	return string(body), nil
}

func (s *session) authorize(request *http.Request) {
	if s.options.token != "" {
		request.Header.Set("Authorization", "Bearer "+s.options.token)
	}
}

func (s *session) changed(state webrtc.PeerConnectionState) {
	at := ms(time.Since(s.count.start))
	s.set(func(r *result) {
		r.State = state.String()
		switch state {
		case webrtc.PeerConnectionStateConnected:
			r.Connected = at
		case webrtc.PeerConnectionStateDisconnected, webrtc.PeerConnectionStateFailed, webrtc.PeerConnectionStateClosed:
			if r.Closed == 0 {
				r.Closed = at
			}
		default:
		}
	})
}

// received reads a track to its end. RTX packets come out of the same track, restored.
func (s *session) received(track *webrtc.TrackRemote, _ *webrtc.RTPReceiver) {
	s.set(func(r *result) { r.Profile = track.Codec().SDPFmtpLine })
	if s.options.pli {
		s.ask(&rtcp.PictureLossIndication{MediaSSRC: uint32(track.SSRC())})
	}
	buffer := make([]byte, 1600)
	for {
		n, attributes, err := track.Read(buffer)
		if err != nil {
			return
		}
		byRTX := attributes.Get(webrtc.AttributeRtxPayloadType) != nil
		now := time.Now()
		s.mu.Lock()
		s.count.add(buffer[:n], byRTX, now)
		s.mu.Unlock()
	}
}

// newestPicture is the RTP time stamp of the newest frame, nil before the first.
func (s *session) newestPicture() *uint32 {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.count.frames == 0 {
		return nil
	}
	newest := s.count.ts
	return &newest
}

// ask sends feedback; a connection that is gone cannot be asked, which the counters show.
func (s *session) ask(packet rtcp.Packet) { _ = s.pc.WriteRTCP([]rtcp.Packet{packet}) }

func (s *session) ssrc() uint32 {
	for _, receiver := range s.pc.GetReceivers() {
		if track := receiver.Track(); track != nil {
			return uint32(track.SSRC())
		}
	}
	return 0
}

// askAgain sends a NACK (RFC 4585) for what is missing for 20 ms, and again each 120 ms.
func (s *session) askAgain() {
	s.mu.Lock()
	wanted := s.count.due(time.Now(), 20*time.Millisecond, 120*time.Millisecond)
	s.result.Nacked += int64(len(wanted))
	s.mu.Unlock()
	if len(wanted) > 0 {
		s.ask(&rtcp.TransportLayerNack{MediaSSRC: s.ssrc(), Nacks: rtcp.NackPairsFromSequenceNumbers(wanted)})
	}
}

// insist asks for a keyframe where -pli does and none has come whole, as a browser does.
func (s *session) insist() {
	s.mu.Lock()
	without := s.count.firstKeyframe == 0
	s.mu.Unlock()
	if ssrc := s.ssrc(); s.options.pli && without && ssrc != 0 {
		s.ask(&rtcp.PictureLossIndication{MediaSSRC: ssrc})
	}
}

// estimate sends REMB where -remb asks for it.
func (s *session) estimate() {
	if ssrc := s.ssrc(); s.options.remb > 0 && ssrc != 0 {
		s.ask(&rtcp.ReceiverEstimatedMaximumBitrate{Bitrate: float32(s.options.remb) * 1000, SSRCs: []uint32{ssrc}})
	}
}

// snapshot is the result so far.
func (s *session) snapshot() result {
	s.mu.Lock()
	defer s.mu.Unlock()
	r, c := s.result, &s.count
	r.FirstPacket, r.FirstKey, r.LastPacket, r.LongestGap = ms(c.firstPacket), ms(c.firstKeyframe), ms(c.lastPacket), ms(c.longestGap)
	r.Packets, r.Bytes, r.Frames, r.Keyframes = c.packets, c.bytes, c.frames, c.keys
	r.Lost, r.Missing, r.Duplicates, r.RTX = c.lost, c.missing, c.duplicates, c.rtx
	r.Dropped = s.impair.dropped.Load()
	return r
}

// close deletes the resource, politely, and drops the connection.
func (s *session) close() {
	if s.resource != "" && s.options.bye {
		if where, err := url.Parse(s.resource); err == nil {
			request := (&http.Request{Method: http.MethodDelete, URL: where, Header: http.Header{}})
			s.authorize(request)
			if response, err := http.DefaultClient.Do(request); err == nil {
				response.Body.Close()
			}
		}
	}
	if s.pc != nil {
		_ = s.pc.Close()
	}
}

// withoutCandidates is an offer that names no address, as one who trickles sends it.
func withoutCandidates(sdp string) string {
	var kept []string
	for _, line := range strings.SplitAfter(sdp, "\n") {
		if !strings.HasPrefix(line, "a=candidate:") && !strings.HasPrefix(line, "a=end-of-candidates") {
			kept = append(kept, line)
		}
	}
	return strings.Join(kept, "")
}
