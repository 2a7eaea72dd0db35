package main

import (
	"math/rand/v2"
	"sync/atomic"
	"time"

	"github.com/pion/interceptor"
	"github.com/pion/rtcp"
)

// impairment sits between the transport and every other interceptor: it drops received packets at random
// and falls silent (sends no RTCP) after a while.
type impairment struct {
	interceptor.NoOp
	loss        float64
	silentAfter time.Duration // since the session began; negative: never
	start       time.Time
	dropped     atomic.Int64
}

// NewInterceptor makes the impairment its own factory: one is made for each session.
func (i *impairment) NewInterceptor(string) (interceptor.Interceptor, error) { return i, nil }

func (i *impairment) BindRemoteStream(_ *interceptor.StreamInfo, reader interceptor.RTPReader) interceptor.RTPReader {
	if i.loss <= 0 {
		return reader
	}
	return interceptor.RTPReaderFunc(func(b []byte, a interceptor.Attributes) (int, interceptor.Attributes, error) {
		for {
			n, attributes, err := reader.Read(b, a)
			if err != nil || rand.Float64() >= i.loss {
				return n, attributes, err
			}
			i.dropped.Add(1)
		}
	})
}

func (i *impairment) BindRTCPWriter(writer interceptor.RTCPWriter) interceptor.RTCPWriter {
	return interceptor.RTCPWriterFunc(func(packets []rtcp.Packet, a interceptor.Attributes) (int, error) {
		if i.silentAfter >= 0 && time.Since(i.start) >= i.silentAfter {
			return 0, nil
		}
		return writer.Write(packets, a)
	})
}
