// Package decider does all that a pure package must not.
package decider

import (
	crand "crypto/rand" // want a pure package must not import crypto/rand
	"fmt"
	"log/slog"
	"math/rand/v2"
	"net"         // want a pure package must not import net
	"os"          // want a pure package must not import os
	"sync/atomic" // allowed to this one
	clock "time"

	"github.com/btns-ipsec/btns/sideways" // want decider must not import sideways
	"github.com/btns-ipsec/btns/vocabulary"
)

func init() { // want a pure package must not have an init function
	go fmt.Println(net.IP{}) // want a pure package must not start a goroutine; a pure package must not use fmt.Println
}

// Decide is documented.
func Decide(c chan int) { // want a pure package has no use for a channel
	slog.Info("log")          // want a pure package must not use slog.Info
	if clock.Now().IsZero() { // want a pure package must not use clock.Now
		panic(os.Args) // want a pure package must not call panic
	}
	_, _ = crand.Read(nil)
	_ = rand.New(rand.NewPCG(1, 2)).IntN(3)
	_ = rand.IntN(3) // want a pure package must not use rand.IntN
	_ = sideways.Name
	_ = vocabulary.Red
	_ = atomic.Int32{}
}
