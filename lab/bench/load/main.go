//go:build bench

// Program load is many peers in one process: each has an address and a key of its own and makes one IKE SA with one child
// at a responder, over UDP, as a btns that begins would. It runs where the addresses are local, on one core: everything is
// done on one goroutine.
//
// It prints one line of JSON when all handshakes are done, and then keeps answering. SIGUSR1 has it send an echo request
// under every child, SIGTERM ends it.
package main

import (
	"encoding/json"
	"flag"
	"fmt"
	"net/netip"
	"os"
	"os/signal"
	"runtime"
	"time"

	"golang.org/x/sys/unix"

	"github.com/btns-ipsec/btns/ikev2"
	"github.com/btns-ipsec/btns/ikev2/suite"
	"github.com/btns-ipsec/btns/protect"
)

// Done is the line that is printed after the handshakes.
type Done struct {
	Done    int     `json:"done"`
	Failed  int     `json:"failed"`
	Seconds float64 `json:"seconds"` // of wall time
	CPU     float64 `json:"cpu"`     // seconds of this process
	Repeats int     `json:"repeats"` // datagrams more than needed: sent again, or with a cookie
}

// Echoed is the line that is printed after SIGUSR1.
type Echoed struct {
	Sent   int `json:"sent"`
	Echoed int `json:"echoed"`
}

func main() {
	to := flag.String("to", "", "address of the responder")
	first := flag.String("first", "", "address of the first peer; the others follow it")
	peers := flag.Int("peers", 1, "how many")
	inFlight := flag.Int("in-flight", 64, "handshakes at once")
	hybrid := flag.Bool("hybrid", false, "X25519 and ML-KEM-768, not X25519 alone")
	flag.Parse()
	if err := run(*to, *first, *peers, *inFlight, *hybrid); err != nil {
		fmt.Fprintln(os.Stderr, "load:", err)
		os.Exit(1)
	}
}

func run(to, first string, peers, inFlight int, hybrid bool) error {
	runtime.LockOSThread()
	responder, err := netip.ParseAddr(to)
	if err != nil {
		return err
	}
	local, err := netip.ParseAddr(first)
	if err != nil {
		return err
	}
	c, err := newCrowd(responder, local, peers, proposal(hybrid))
	if err != nil {
		return err
	}
	defer c.close()
	signals := make(chan os.Signal, 1)
	signal.Notify(signals, unix.SIGUSR1, unix.SIGTERM)
	fmt.Println("ready")
	if <-signals == unix.SIGTERM {
		return nil
	}
	began, used := time.Now(), cpu()
	for c.up+c.failed < peers {
		for c.begun < peers && c.begun-c.up-c.failed < inFlight {
			c.begin()
		}
		if err := c.turn(); err != nil {
			return err
		}
	}
	print(Done{
		Done: c.up, Failed: c.failed, Seconds: time.Since(began).Seconds(), CPU: (cpu() - used).Seconds(),
		Repeats: c.sent - c.least(),
	})
	return c.serve(signals)
}

func print(line any) {
	b, err := json.Marshal(line)
	if err != nil {
		panic(err)
	}
	fmt.Println(string(b))
}

func proposal(hybrid bool) ikev2.Proposal {
	s := suite.IKE{Cipher: suite.Cipher{Encr: protect.AESGCM16, KeyBits: 128}, PRF: suite.PRFSHA256, KE: suite.X25519}
	if hybrid {
		s.AddKE = []suite.KE{suite.MLKEM768}
	}
	return ikev2.ProposalOf(s)
}

// cpu is how long this process has run, in user mode and in the kernel.
func cpu() time.Duration {
	var u unix.Rusage
	if err := unix.Getrusage(unix.RUSAGE_SELF, &u); err != nil {
		return 0
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}
