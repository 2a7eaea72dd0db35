package main

import (
	"fmt"
	"net"
	"net/url"
	"slices"
	"strings"
	"time"

	"github.com/pion/ice/v4"
	"github.com/pion/interceptor"
	"github.com/pion/interceptor/pkg/report"
	"github.com/pion/webrtc/v4"
)

// codec sets that an offer may carry, in this order of preference. `chrome` is how Chromium orders its own.
var codecSets = map[string][]string{
	"h264":   {"H264 packetization-mode=1;profile-level-id=42e01f"},
	"high":   {"H264 packetization-mode=1;profile-level-id=640c1f"},
	"mode0":  {"H264 packetization-mode=0;profile-level-id=42e01f"},
	"nofmtp": {"H264 "},
	"h265":   {"H265 level-id=93;profile-id=1;tier-flag=0;tx-mode=SRST"},
	"vp8":    {"VP8 "},
	"chrome": {
		"VP8 ",
		"H264 packetization-mode=1;profile-level-id=42001f", "H264 packetization-mode=0;profile-level-id=42001f",
		"H264 packetization-mode=1;profile-level-id=42e01f", "H264 packetization-mode=0;profile-level-id=42e01f",
		"H264 packetization-mode=1;profile-level-id=4d001f",
	},
}

// newConnection makes a peer connection that asks for one video of the codec set (none with -video=false), with the extensions and the
// feedback that a browser offers, but for estimates of the rate unless -remb gives them.
func newConnection(o *options, impair *impairment) (*webrtc.PeerConnection, error) {
	media := &webrtc.MediaEngine{}
	feedback := []webrtc.RTCPFeedback{{Type: "ccm", Parameter: "fir"}, {Type: "nack", Parameter: "pli"}}
	if o.remb > 0 { // who promises an estimate is sent little until it comes
		feedback = append(feedback, webrtc.RTCPFeedback{Type: "goog-remb"})
	}
	if o.nack {
		feedback = append(feedback, webrtc.RTCPFeedback{Type: "nack"})
	}
	set, known := codecSets[o.codecs]
	if !known {
		return nil, fmt.Errorf("no codec set %q", o.codecs)
	}
	for i, codec := range set {
		name, fmtp, _ := strings.Cut(codec, " ")
		payloadType := webrtc.PayloadType(96 + 2*i)
		if err := media.RegisterCodec(webrtc.RTPCodecParameters{
			RTPCodecCapability: webrtc.RTPCodecCapability{
				MimeType: "video/" + name, ClockRate: 90000, SDPFmtpLine: fmtp, RTCPFeedback: feedback,
			},
			PayloadType: payloadType,
		}, webrtc.RTPCodecTypeVideo); err != nil {
			return nil, err
		}
		if !o.rtx {
			continue
		}
		if err := media.RegisterCodec(webrtc.RTPCodecParameters{
			RTPCodecCapability: webrtc.RTPCodecCapability{
				MimeType: webrtc.MimeTypeRTX, ClockRate: 90000, SDPFmtpLine: fmt.Sprintf("apt=%d", payloadType),
			},
			PayloadType: payloadType + 1,
		}, webrtc.RTPCodecTypeVideo); err != nil {
			return nil, err
		}
	}
	for _, uri := range []string{"urn:ietf:params:rtp-hdrext:sdes:mid", "http://www.webrtc.org/experiments/rtp-hdrext/abs-send-time"} {
		capability := webrtc.RTPHeaderExtensionCapability{URI: uri}
		if err := media.RegisterHeaderExtension(capability, webrtc.RTPCodecTypeVideo); err != nil {
			return nil, err
		}
	}
	registry := &interceptor.Registry{}
	registry.Add(impair) // first: nearest to the network
	reports, err := report.NewReceiverInterceptor()
	if err != nil {
		return nil, err
	}
	registry.Add(reports)
	api := webrtc.NewAPI(webrtc.WithMediaEngine(media), webrtc.WithInterceptorRegistry(registry), webrtc.WithSettingEngine(settings(o)))
	connection, err := api.NewPeerConnection(webrtc.Configuration{})
	if err != nil {
		return nil, err
	}
	if o.video {
		receiveOnly := webrtc.RTPTransceiverInit{Direction: webrtc.RTPTransceiverDirectionRecvonly}
		if _, err = connection.AddTransceiverFromKind(webrtc.RTPCodecTypeVideo, receiveOnly); err != nil {
			return nil, err
		}
	}
	return connection, nil
}

// settings keeps ICE to UDP over IPv4 (and IPv6 where wished), on the address that reaches the server; a server on
// loopback may send from any address of this host.
func settings(o *options) webrtc.SettingEngine {
	engine := webrtc.SettingEngine{}
	engine.SetICEMulticastDNSMode(ice.MulticastDNSModeDisabled)
	engine.SetICETimeouts(5*time.Second, 60*time.Second, 2*time.Second)
	networks := []webrtc.NetworkType{webrtc.NetworkTypeUDP4}
	if o.ipv6 {
		networks = append(networks, webrtc.NetworkTypeUDP6)
	}
	engine.SetNetworkTypes(networks)
	own := o.addresses()
	engine.SetIncludeLoopbackCandidate(true)
	// -loss drops after decryption: what is sent again under its own number must not look like a replay
	engine.DisableSRTPReplayProtection(o.loss > 0)
	engine.SetIPFilter(func(ip net.IP) bool {
		return len(own) == 0 || slices.ContainsFunc(own, ip.Equal)
	})
	return engine
}

// addresses are the ones to gather candidates from; empty means all.
func (o *options) addresses() []net.IP {
	if o.ip != "" {
		return []net.IP{net.ParseIP(o.ip)}
	}
	where, err := url.Parse(o.url)
	if err != nil {
		return nil
	}
	probe, err := net.Dial("udp", net.JoinHostPort(where.Hostname(), "9")) // sends nothing: asks the routing table
	if err != nil {
		return nil
	}
	defer probe.Close()
	ip := probe.LocalAddr().(*net.UDPAddr).IP
	if ip.IsLoopback() {
		return nil
	}
	return []net.IP{ip}
}
