package main

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/gopacket/gopacket"
	"github.com/gopacket/gopacket/layers"
	"github.com/gopacket/gopacket/pcapgo"
	"golang.org/x/sys/unix"
)

// Kinds of packets on the cable.
const (
	kindIKE       = "IKE"
	kindESP       = "ESP"
	kindNeighbour = "ARP, neighbour discovery and multicast membership"
	kindError     = "ICMP error about IKE or ESP"
)

// sight is what somebody at the cable saw.
type sight struct {
	kinds   map[string]int
	payload int    // packets in which the payload can be read
	sample  string // of a packet in clear
}

// clear counts the packets that are neither IKE nor ESP nor needed to find the neighbour.
func (s sight) clear() (n int) {
	for kind, count := range s.kinds {
		switch kind {
		case kindIKE, kindESP, kindNeighbour, kindError:
		default:
			n += count
		}
	}
	return n
}

func (s sight) clearSample() string {
	if s.clear() == 0 {
		return ""
	}
	return fmt.Sprintf(": %d packets in clear, such as %s", s.clear(), s.sample)
}

func (s sight) String() string {
	var parts []string
	for kind, n := range s.kinds {
		parts = append(parts, fmt.Sprintf("%d %s", n, kind))
	}
	slices.Sort(parts)
	if len(parts) == 0 {
		return "nothing"
	}
	return strings.Join(parts, ", ")
}

// look takes note of one Ethernet frame.
func (s *sight) look(frame []byte) {
	kind := classify(frame)
	s.kinds[kind]++
	if bytes.Contains(frame, []byte(payload)) {
		s.payload++
	}
	if s.sample == "" && s.clear() > 0 {
		s.sample = kind
	}
}

func classify(frame []byte) string {
	if len(frame) < 14 {
		return "runt"
	}
	b := frame[14:]
	switch proto := binary.BigEndian.Uint16(frame[12:]); proto {
	case 0x0806:
		return kindNeighbour
	case 0x0800:
		if len(b) < 20 {
			return "runt"
		}
		if binary.BigEndian.Uint16(b[6:])&0x3fff != 0 {
			return "IPv4 fragment"
		}
		return classifyIP("IPv4", b[9], b[min(len(b), int(b[0]&15)*4):])
	case 0x86dd:
		if len(b) < 40 {
			return "runt"
		}
		next, rest := b[6], b[40:]
		if next == 0 && len(rest) >= 8 { // hop-by-hop: multicast listeners report with a router alert
			next, rest = rest[0], rest[min(len(rest), int(rest[1])*8+8):]
		}
		return classifyIP("IPv6", next, rest)
	default:
		return fmt.Sprintf("Ethernet type %04x", proto)
	}
}

func classifyIP(family string, proto byte, b []byte) string {
	switch {
	case proto == 50:
		return kindESP
	case proto == 17 && len(b) >= 8:
		from, to := binary.BigEndian.Uint16(b), binary.BigEndian.Uint16(b[2:])
		switch data := b[8:]; {
		case from == 500 || to == 500:
			return kindIKE
		case from != 4500 && to != 4500:
			return family + " UDP"
		case len(data) < 4 || binary.BigEndian.Uint32(data) == 0: // keepalive, or the non-ESP marker (RFC 3948 §2)
			return kindIKE
		}
		return kindESP
	case proto == 17:
		return family + " UDP"
	case proto == 6:
		return family + " TCP"
	case proto == 58 && len(b) > 0 && (b[0] >= 130 && b[0] <= 137 || b[0] == 143): // RFC 4861; and RFC 3810, which it needs
		return kindNeighbour
	case proto == 2: // IGMP, which is to IPv4 what the latter is to IPv6
		return kindNeighbour
	case proto == 1 && len(b) > 8 && b[0] == 3, proto == 58 && len(b) > 8 && b[0] <= 4:
		return classifyError(family, b[8:])
	case proto == 1 || proto == 58:
		return family + " ping"
	}
	return fmt.Sprintf("%s protocol %d", family, proto)
}

// classifyError looks at what an ICMP error is about.
func classifyError(family string, quoted []byte) string {
	kind := ""
	switch {
	case family == "IPv4" && len(quoted) >= 28:
		kind = classifyIP(family, quoted[9], quoted[min(len(quoted), int(quoted[0]&15)*4):])
	case family == "IPv6" && len(quoted) >= 48:
		kind = classifyIP(family, quoted[6], quoted[40:])
	}
	if kind == kindIKE || kind == kindESP {
		return kindError
	}
	return family + " ICMP error"
}

// capture records one end of the cable.
type capture struct {
	socket *os.File
	file   *os.File // or nil
	pcap   *pcapgo.Writer
	done   chan struct{}
	once   sync.Once
	seen   sight
}

// record begins to record the cable, at the tap.
func (d *demo) record(name string) (*capture, error) {
	c := &capture{done: make(chan struct{}), seen: sight{kinds: make(map[string]int)}}
	err := inside(d.wire, func() error {
		device, err := net.InterfaceByName(d.a.name)
		if err != nil {
			return err
		}
		all := int(binary.NativeEndian.Uint16([]byte{0, unix.ETH_P_ALL}))
		fd, err := unix.Socket(unix.AF_PACKET, unix.SOCK_RAW|unix.SOCK_NONBLOCK|unix.SOCK_CLOEXEC, all)
		if err != nil {
			return err
		}
		_ = unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_RCVBUFFORCE, 8<<20) // else what is lost is seen by nobody
		if err := unix.Bind(fd, &unix.SockaddrLinklayer{Protocol: uint16(all), Ifindex: device.Index}); err != nil {
			return errors.Join(err, unix.Close(fd))
		}
		c.socket = os.NewFile(uintptr(fd), "capture")
		return nil
	})
	if err != nil {
		return nil, fmt.Errorf("recording the cable: %w", err)
	}
	if d.keep != "" {
		if c.file, err = os.Create(filepath.Join(d.keep, name+".pcap")); err != nil {
			return nil, errors.Join(err, c.socket.Close())
		}
		c.pcap = pcapgo.NewWriterNanos(c.file)
		if err := c.pcap.WriteFileHeader(1<<17, layers.LinkTypeEthernet); err != nil {
			return nil, errors.Join(err, c.socket.Close(), c.file.Close())
		}
	}
	go c.run()
	return c, nil
}

func (c *capture) run() {
	defer close(c.done)
	b := make([]byte, 1<<17)
	for {
		n, err := c.socket.Read(b)
		if err != nil {
			return
		}
		c.seen.look(b[:n])
		if c.pcap != nil {
			_ = c.pcap.WritePacket(gopacket.CaptureInfo{Timestamp: time.Now(), CaptureLength: n, Length: n}, b[:n])
		}
	}
}

// stop ends the recording, after what is on its way has been seen, and returns what was seen.
func (c *capture) stop() sight {
	c.once.Do(func() {
		_ = c.socket.SetReadDeadline(time.Now().Add(300 * time.Millisecond))
		<-c.done
		_ = c.socket.Close()
		if c.file != nil {
			_ = c.file.Close()
		}
	})
	return c.seen
}
