package main

import (
	"testing"
	"time"
)

func packet(seq uint16, ts uint32, marker bool, payload ...byte) []byte {
	second := byte(102)
	if marker {
		second |= 0x80
	}
	header := []byte{0x80, second, byte(seq >> 8), byte(seq), byte(ts >> 24), byte(ts >> 16), byte(ts >> 8), byte(ts), 0, 0, 0, 1}
	return append(header, payload...)
}

func TestLossRepairAndDuplicatesAcrossTheWrap(t *testing.T) {
	c := counter{start: time.Now()}
	now := c.start
	for i := range uint16(10) {
		if seq := uint16(65530) + i; seq != 65535 && seq != 1 {
			c.add(packet(seq, uint32(i), true, 0x41, 0), false, now)
		}
	}
	if c.missing != 2 || c.lost != 0 || c.packets != 8 {
		t.Fatalf("missing %d lost %d packets %d", c.missing, c.lost, c.packets)
	}
	if wanted := c.due(now.Add(time.Second), time.Millisecond, time.Second); len(wanted) != 2 || wanted[0] != 65535 || wanted[1] != 1 {
		t.Fatalf("wanted %v", wanted)
	}
	if again := c.due(now.Add(time.Second), time.Millisecond, time.Second); len(again) != 0 {
		t.Fatalf("asked again at once: %v", again)
	}
	c.add(packet(65535, 5, true, 0x41, 0), true, now)
	c.add(packet(65535, 5, true, 0x41, 0), true, now)
	if c.missing != 1 || c.rtx != 2 || c.duplicates != 1 {
		t.Fatalf("missing %d rtx %d duplicates %d", c.missing, c.rtx, c.duplicates)
	}
	for i := range uint16(window + 8) {
		c.add(packet(4+i, 100+uint32(i), true, 0x41, 0), false, now)
	}
	if c.missing != 0 || c.lost != 1 {
		t.Fatalf("missing %d lost %d after the window passed", c.missing, c.lost)
	}
}

func TestFramesAndKeyframes(t *testing.T) {
	c := counter{start: time.Now()}
	now := c.start.Add(7 * time.Millisecond)
	c.add(packet(1, 1000, false, 24, 0, 2, 0x67, 1, 0, 1, 0x68), false, now) // STAP-A: SPS, PPS
	c.add(packet(2, 1000, false, 28, 0x85, 1), false, now)                   // FU-A: start of an IDR
	c.add(packet(3, 1000, true, 28, 0x45, 1), false, now)                    // and its end
	c.add(packet(4, 4000, true, 0x41, 1), false, now.Add(33*time.Millisecond))
	if c.frames != 2 || c.keys != 1 || c.firstKeyframe != 7*time.Millisecond || c.longestGap != 33*time.Millisecond {
		t.Fatalf("frames %d keys %d first %v gap %v", c.frames, c.keys, c.firstKeyframe, c.longestGap)
	}
}

func TestNonsenseIsIgnored(t *testing.T) {
	c := counter{start: time.Now()}
	for _, p := range [][]byte{nil, {0x80}, make([]byte, 40), {0x9f, 102, 0, 1, 0, 0, 0, 1, 0, 0, 0, 1}} {
		c.add(p, false, c.start)
	}
	if c.packets > 1 || c.keys != 0 {
		t.Fatalf("packets %d keys %d", c.packets, c.keys)
	}
}
