package main

import (
	"encoding/binary"
	"time"
)

// window is how many of the newest packets may still be missing before they count as lost:
// about 2.5 s of a stream of 4 Mbit/s.
const window = 1024

// counter follows one RTP stream (RFC 3550) of H.264 (RFC 6184) without decoding it.
// Times are measured from start.
type counter struct {
	start time.Time

	packets, bytes  int64 // packets that were new, and their RTP bytes with the header
	rtx, duplicates int64 // packets that came by RTX (RFC 4588), and those that had been there before
	frames, keys    int64
	lost            int64 // packets that left the window without having come
	missing         int   // packets not there yet, still inside the window

	firstPacket, firstKeyframe, lastPacket, longestGap time.Duration

	began    bool
	newest   int64 // extended sequence number
	seen     [window]bool
	asked    [window]ask // NACKs sent for what is missing
	ts       uint32      // of the newest frame
	tsAt     time.Duration
	keyTS    uint32
	keyBegan bool
}

// ask is what has been asked again for one missing packet.
type ask struct {
	since time.Duration // when it was noticed, or last asked for
	times int
}

// add takes one packet as it came, by RTX or not. Packets that are no RTP are ignored.
func (c *counter) add(packet []byte, byRTX bool, now time.Time) {
	if len(packet) < 12 || packet[0]>>6 != 2 {
		return
	}
	at := now.Sub(c.start)
	seq := binary.BigEndian.Uint16(packet[2:])
	ts := binary.BigEndian.Uint32(packet[4:])
	fresh := c.place(seq, at)
	if byRTX {
		c.rtx++
	}
	if !fresh {
		c.duplicates++
		return
	}
	if c.packets == 0 {
		c.firstPacket = at
	}
	c.packets++
	c.bytes += int64(len(packet))
	c.lastPacket = at
	if c.frames == 0 || int32(ts-c.ts) > 0 {
		if c.frames > 0 {
			c.longestGap = max(c.longestGap, at-c.tsAt)
		}
		c.frames, c.ts, c.tsAt = c.frames+1, ts, at
	}
	if holdsIDR(payload(packet)) && (!c.keyBegan || int32(ts-c.keyTS) > 0) {
		c.keys, c.keyTS, c.keyBegan = c.keys+1, ts, true
	}
	if marker := packet[1]&0x80 != 0; marker && c.firstKeyframe == 0 && c.keyBegan && ts == c.keyTS {
		c.firstKeyframe = at
	}
}

// place notes that seq has come and reports whether it is new.
func (c *counter) place(seq uint16, at time.Duration) bool {
	if !c.began {
		c.began, c.newest = true, int64(seq)+1<<16
		for i := range c.seen {
			c.seen[i] = true // nothing before the first packet is missed
		}
	}
	extended := c.newest + int64(int16(seq-uint16(c.newest)))
	for c.newest < extended {
		c.newest++
		slot := c.newest % window
		if !c.seen[slot] {
			c.lost++
			c.missing--
		}
		c.seen[slot], c.asked[slot] = false, ask{since: at}
		c.missing++
	}
	slot := extended % window
	if extended <= c.newest-window {
		return false // too old to know
	}
	if c.seen[slot] {
		// the very first packet finds its own place taken
		return c.packets == 0
	}
	c.seen[slot] = true
	c.missing--
	return true
}

// due lists packets to ask for again: those missing for `patience`, and then once in `again`, ten times at most.
func (c *counter) due(now time.Time, patience, again time.Duration) []uint16 {
	if c.missing == 0 {
		return nil
	}
	at := now.Sub(c.start)
	var wanted []uint16
	for seq := c.newest - window + 1; seq < c.newest; seq++ {
		slot := seq % window
		a := &c.asked[slot]
		wait := again
		if a.times == 0 {
			wait = patience
		}
		if c.seen[slot] || a.times >= 10 || at-a.since < wait {
			continue
		}
		a.times++
		a.since = at
		wanted = append(wanted, uint16(seq))
	}
	return wanted
}

// payload is what follows the RTP header, its CSRCs and its extension; padding is left on.
func payload(packet []byte) []byte {
	offset := 12 + 4*int(packet[0]&0x0f)
	if packet[0]&0x10 != 0 && len(packet) >= offset+4 {
		offset += 4 + 4*int(binary.BigEndian.Uint16(packet[offset+2:]))
	}
	if offset > len(packet) {
		return nil
	}
	return packet[offset:]
}

// holdsIDR reports whether a payload is, or carries the start of, an IDR slice: alone, in a STAP-A, or in an FU-A.
func holdsIDR(p []byte) bool {
	const idr, stapA, fuA = 5, 24, 28
	if len(p) < 2 {
		return false
	}
	switch p[0] & 0x1f {
	case idr:
		return true
	case fuA:
		return p[1]&0x80 != 0 && p[1]&0x1f == idr
	case stapA:
		for p = p[1:]; len(p) > 2; {
			size := int(binary.BigEndian.Uint16(p))
			if p[2]&0x1f == idr {
				return true
			}
			if size+2 > len(p) {
				return false
			}
			p = p[size+2:]
		}
	}
	return false
}
