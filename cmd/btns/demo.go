package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"time"

	"github.com/spf13/cobra"
)

func newDemo() *cobra.Command {
	var keep string
	cmd := &cobra.Command{
		Use:   "demo",
		Short: "See it work on this machine: two hosts, real traffic, a capture, an impostor",
		Long: `Makes two hosts (network namespaces) joined by a cable, lets them talk without btns and with it, records what can be seen on
the cable, and lets an impostor try. It needs root, takes less than two minutes, installs nothing and leaves nothing behind.
The exit code is 0 when all that it claims was true.`,
		Args: exactly(),
	}
	cmd.Flags().StringVar(&keep, "keep-capture", "", "write what was seen on the cable to this directory, as pcap files")
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		if os.Geteuid() != 0 {
			return hint(errors.New("btns demo needs root: it makes network namespaces and devices"), "sudo btns demo")
		}
		if _, err := exec.LookPath("ip"); err != nil {
			return hint(errors.New("btns demo needs the command ip"), "install iproute2, on Debian: apt install iproute2")
		}
		if keep != "" {
			if info, err := os.Stat(keep); err != nil || !info.IsDir() {
				return &inputError{fmt.Errorf("--keep-capture %s: not a directory", keep)}
			}
		}
		ctx, cancel := context.WithTimeout(cmd.Context(), 100*time.Second)
		defer cancel()
		d := &demo{w: cmd.OutOrStdout(), keep: keep, began: time.Now()}
		return d.run(ctx)
	}
	return cmd
}

// demo tells a story and checks every sentence of it.
type demo struct {
	w      io.Writer
	wire   string // namespace of the cable
	keep   string // directory for captures, or empty
	began  time.Time
	dir    string // for state and sockets
	a, b   *demoHost
	claims int
	broken int
}

func (d *demo) run(ctx context.Context) (err error) {
	defer func() {
		err = errors.Join(err, d.cleanUp())
		if err == nil && d.broken > 0 {
			err = fmt.Errorf("%d of %d claims do not hold", d.broken, d.claims)
		}
		if err == nil {
			d.say("\nAll %d claims hold; it took %.0f seconds, and nothing is left behind.", d.claims, time.Since(d.began).Seconds())
		}
	}()
	if err := d.build(ctx); err != nil {
		return fmt.Errorf("demo: building two hosts: %w", err)
	}
	for _, chapter := range []func(context.Context) error{d.withoutBtns, d.comeUp, d.protected, d.whoIsThere, d.impostor} {
		err := chapter(ctx)
		if ctx.Err() != nil { // whatever it found is not to be trusted
			return fmt.Errorf("demo: stopped before its end: %w", context.Cause(ctx))
		}
		if err != nil {
			return fmt.Errorf("demo: %w", err)
		}
		if d.broken > 0 {
			d.showLogs()
			return nil // the rest stands on this
		}
	}
	return nil
}

func (d *demo) title(format string, args ...any) { d.say("\n== "+format, args...) }

func (d *demo) say(format string, args ...any) { fmt.Fprintf(d.w, format+"\n", args...) }

// claim says whether something is true.
func (d *demo) claim(ok bool, format string, args ...any) {
	d.claims++
	mark := "[ok]    "
	if !ok {
		d.broken++
		mark = "[FALSE] "
	}
	d.say("   "+mark+format, args...)
}

// payload is what must not be readable on the cable.
const payload = "meet me at noon, behind the old mill"

func (d *demo) withoutBtns(ctx context.Context) error {
	d.title("Without btns")
	d.say("   a talks to b, and somebody records the cable between them.")
	c, err := d.record("without-btns")
	if err != nil {
		return err
	}
	defer c.stop()
	talked := d.talk(ctx)
	seen := c.stop()
	d.say("   On the cable: %v", seen)
	d.claim(talked == nil, "TCP, UDP and ping work over IPv4 and IPv6%s", because(talked))
	d.claim(seen.payload > 0, "the payload can be read in %d packets: %q", seen.payload, payload)
	return nil
}

func (d *demo) comeUp(ctx context.Context) error {
	d.title("btns up, on both: no configuration, no certificate, no shared secret")
	for _, h := range []*demoHost{d.a, d.b} {
		if err := h.up(ctx, d.dir, "key"); err != nil {
			return err
		}
		d.say("   %s# btns up &", h.name)
	}
	for _, addr := range []string{d.b.v4, d.b.v6} {
		text, err := d.a.btns(ctx, "wait", addr, "--timeout", "20s")
		d.quote(d.a, text, "wait", addr)
		d.claim(err == nil, "btns wait says that traffic with %s is protected", addr)
	}
	return nil
}

func (d *demo) protected(ctx context.Context) error {
	d.title("With btns: the same traffic again")
	c, err := d.record("with-btns")
	if err != nil {
		return err
	}
	defer c.stop()
	talked := d.talk(ctx)
	seen := c.stop()
	d.say("   On the cable: %v", seen)
	d.claim(talked == nil, "TCP, UDP and ping work over IPv4 and IPv6%s", because(talked))
	d.claim(seen.kinds[kindESP] > 0 && seen.clear() == 0, "nothing but IKE and ESP is on the cable%s", seen.clearSample())
	d.claim(seen.payload == 0, "the payload can be read nowhere")
	return nil
}

func (d *demo) whoIsThere(ctx context.Context) error {
	d.title("Who is on the other end?")
	for _, pair := range [][2]*demoHost{{d.a, d.b}, {d.b, d.a}} {
		h, other := pair[0], pair[1]
		text, err := h.btns(ctx, "peers")
		if err != nil {
			return err
		}
		d.quote(h, text, "peers")
		id, err := other.client().ID(ctx)
		if err != nil {
			return err
		}
		peers, err := h.client().Peers(ctx)
		if err != nil {
			return err
		}
		found := 0
		for _, p := range peers {
			if p.Name == id.Name && p.State == "protected" && (p.Assurance == "first-use" || p.Assurance == "continuity") {
				found++
			}
		}
		d.claim(found == 2, "%s knows %s by its own key, at both addresses, and how well: a leap of faith so far", h.name, other.name)
	}
	text, err := d.b.btns(ctx, "id")
	if err != nil {
		return err
	}
	d.say("   To be sure of it, compare with what b itself says, over the telephone:")
	d.quote(d.b, text, "id")
	return nil
}

func because(err error) string {
	if err == nil {
		return ""
	}
	return ": " + err.Error()
}
