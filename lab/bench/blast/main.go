// Command blast offers or counts UDP datagrams, many to a system call: a source of packets that is not the bottleneck.
package main

import (
	"flag"
	"fmt"
	"net"
	"os"
	"time"

	"golang.org/x/net/ipv4"
)

const (
	batch   = 32
	silence = 700 * time.Millisecond // after it the sender has ended
	patient = 10 * time.Second       // until the first datagram
)

func main() {
	to := flag.String("to", "", "send to `address`, as fast as possible")
	on := flag.String("on", "", "count what arrives on `address`, until nothing does")
	size := flag.Int("size", 64, "octets of a datagram's payload")
	length := flag.Duration("for", 2*time.Second, "how long to send")
	flag.Parse()
	var n int
	var err error
	switch {
	case *to != "" && *on == "":
		n, err = send(*to, *size, *length)
	case *on != "" && *to == "":
		n, err = count(*on)
	default:
		flag.Usage()
		os.Exit(2)
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "blast:", err)
		os.Exit(1)
	}
	fmt.Println(n)
}

func messages(size int) []ipv4.Message {
	ms := make([]ipv4.Message, batch)
	for i := range ms {
		ms[i].Buffers = [][]byte{make([]byte, size)}
	}
	return ms
}

// send returns how many datagrams the system took.
func send(to string, size int, length time.Duration) (n int, err error) {
	c, err := net.Dial("udp4", to)
	if err != nil {
		return 0, err
	}
	defer c.Close()
	p, ms := ipv4.NewPacketConn(c.(net.PacketConn)), messages(size)
	for end := time.Now().Add(length); time.Now().Before(end); {
		k, err := p.WriteBatch(ms, 0)
		if err == nil { // an error is one of the receiver, or a full queue: neither ends an overload
			n += k
		}
	}
	return n, nil
}

// count returns how many datagrams arrived.
func count(on string) (n int, err error) {
	c, err := net.ListenPacket("udp4", on)
	if err != nil {
		return 0, err
	}
	defer c.Close()
	if err := c.(*net.UDPConn).SetReadBuffer(4 << 20); err != nil {
		return 0, err
	}
	fmt.Println("listening")
	p, ms := ipv4.NewPacketConn(c), messages(2048)
	wait := patient
	for {
		if err := c.SetReadDeadline(time.Now().Add(wait)); err != nil {
			return n, err
		}
		k, err := p.ReadBatch(ms, 0)
		if err != nil {
			return n, nil // the deadline
		}
		n, wait = n+k, silence
	}
}
