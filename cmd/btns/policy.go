package main

import (
	"fmt"
	"io"
	"net/netip"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/btns-ipsec/btns/config"
	"github.com/btns-ipsec/btns/control"
	"github.com/btns-ipsec/btns/host"
	"github.com/btns-ipsec/btns/selector"
)

func newPolicy(g *globals) *cobra.Command {
	cmd := group(&cobra.Command{
		Use:   "policy",
		Short: "The policy in force: test it, try another one",
	})
	cmd.AddCommand(newPolicyTest(g), newPolicyApply(g), newPolicyConfirm(g))
	return cmd
}

func newPolicyTest(g *globals) *cobra.Command {
	cmd := &cobra.Command{
		Use:   "test SRC DST",
		Short: "Say what would happen to a packet",
		Long: `Says what the policy makes of a packet that this host (SRC) sends to another (DST): the entry that decides and where it
stands, what becomes of the packet, who may be the other end, and whether clear packets may come back. It asks the running
daemon, or with --config a file, which needs no daemon. With --in, DST is this host.`,
		Args: exactly("SRC", "DST"),
	}
	asJSON := jsonFlag(cmd)
	proto := cmd.Flags().String("proto", "", "the protocol: tcp, udp, sctp, icmp, icmpv6, or its number; tcp when there is a port")
	port := cmd.Flags().Uint16("port", 0, "the port of DST")
	sport := cmd.Flags().Uint16("source-port", 0, "the port of SRC")
	file := cmd.Flags().String("config", "", "ask this file, not the daemon")
	in := cmd.Flags().Bool("in", false, "the packet comes in: DST is this host")
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		f, err := packetOf(cmd, args, *proto, *sport, *port)
		if err != nil {
			return err
		}
		if *in {
			f.Local, f.Remote, f.LocalPort, f.RemotePort = f.Remote, f.Local, f.RemotePort, f.LocalPort
		}
		t, err := testPolicy(cmd, g, *file, f)
		if err != nil {
			return err
		}
		if *asJSON {
			return printJSON(cmd.OutOrStdout(), t)
		}
		return printPolicyTest(cmd.OutOrStdout(), t)
	}
	return cmd
}

func testPolicy(cmd *cobra.Command, g *globals, file string, f selector.Flow) (control.PolicyTest, error) {
	if !cmd.Flags().Changed("config") {
		return control.NewClient(g.socket).TestPolicy(cmd.Context(), f)
	}
	c, err := config.Load(file)
	if err != nil {
		return control.PolicyTest{}, &inputError{err}
	}
	return control.NewPolicyTest(host.TestPolicy(c.Policy, f)), nil
}

// packetOf is the packet that the arguments describe, with SRC as the local end.
func packetOf(cmd *cobra.Command, args []string, proto string, sport, port uint16) (f selector.Flow, err error) {
	wrong := func(format string, args ...any) (selector.Flow, error) {
		return f, &usageError{fmt.Sprintf(format, args...), cmd.CommandPath()}
	}
	ends := [2]netip.Addr{}
	for i, text := range args {
		if ends[i], err = resolve(cmd.Context(), text); err != nil {
			return f, err
		}
	}
	f.Local, f.Remote, f.LocalPort, f.RemotePort = ends[0].WithZone(""), ends[1].WithZone(""), sport, port
	if f.Local.Is4() != f.Remote.Is4() {
		return wrong("%v and %v are of different families", f.Local, f.Remote)
	}
	if proto == "" && port|sport != 0 {
		proto = "tcp"
	}
	if proto != "" {
		if f.Proto, _, err = selector.ParseUpper(proto); err != nil || strings.Contains(proto, "/") {
			return wrong("--proto %s: choose tcp, udp, sctp, icmp, icmpv6, or a number", proto)
		}
	}
	if port|sport != 0 && f.Proto != selector.TCP && f.Proto != selector.UDP && f.Proto != selector.SCTP {
		return wrong("--proto %s has no ports", proto)
	}
	return f, nil
}

func printPolicyTest(w io.Writer, t control.PolicyTest) error {
	end := func(addr string, port uint16) string {
		if port == 0 {
			return addr
		}
		return addr + " port " + strconv.Itoa(int(port))
	}
	entry := t.Entry
	if t.Source != "" {
		entry += " (" + t.Source + ")"
	}
	if err := pairs(w,
		[2]string{"here", end(t.Local, t.LocalPort)},
		[2]string{"there", end(t.Remote, t.RemotePort)},
		[2]string{"entry", entry},
		[2]string{"action", t.Action},
		[2]string{"fallback", t.Fallback},
		[2]string{"waiting", t.Waiting},
		[2]string{"assurance", t.MinAssurance},
		[2]string{"peers", strings.Join(t.Peers, ", ")},
		[2]string{"outbound", t.Verdict},
		[2]string{"inbound", "a clear packet is " + t.Inbound},
	); err != nil {
		return err
	}
	for _, n := range t.Notes {
		fmt.Fprintf(w, "- %s\n", n)
	}
	return nil
}

func newPolicyApply(g *globals) *cobra.Command {
	cmd := &cobra.Command{
		Use:   "apply FILE",
		Short: "Put another configuration in force, on trial if you like",
		Long: `Puts a configuration in force as "btns reload" does, but not the one that btns up was started with. It is kept until the
next btns reload. With --revert-in the daemon takes it back by itself after that time, whatever became of this command or of
the connection it was given over, unless "btns policy confirm" comes first. A daemon that is restarted reads its own file.`,
		Args: exactly("FILE"),
	}
	asJSON := jsonFlag(cmd)
	revert := cmd.Flags().Duration("revert-in", 0, "take it back after this time, unless confirmed")
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		if *revert < 0 || *revert > time.Hour || *revert == 0 && cmd.Flags().Changed("revert-in") {
			return &usageError{fmt.Sprintf("--revert-in %v is not between 1s and 1h", *revert), cmd.CommandPath()}
		}
		d, err := document(args[0])
		if err != nil {
			return &inputError{err}
		}
		a, err := control.NewClient(g.socket).Apply(cmd.Context(), d, *revert)
		return printApplied(cmd, *asJSON, a, err)
	}
	return cmd
}

// document reads a configuration and the files that it names: the daemon may be shut off from them.
func document(path string) (control.Document, error) {
	d := control.Document{Name: path, Files: make(map[string][]byte)}
	text, err := os.ReadFile(path)
	if err != nil {
		return d, err
	}
	d.Text = text
	dir := filepath.Dir(path)
	_, err = config.Parse(path, text, func(name string) ([]byte, error) {
		full := name
		if !filepath.IsAbs(name) {
			full = filepath.Join(dir, name)
		}
		b, err := os.ReadFile(full)
		if err == nil {
			d.Files[name] = b
		}
		return b, err
	})
	return d, err
}

func newPolicyConfirm(g *globals) *cobra.Command {
	cmd := &cobra.Command{
		Use:   "confirm",
		Short: `Keep what "btns policy apply --revert-in" put in force`,
		Args:  exactly(),
	}
	asJSON := jsonFlag(cmd)
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		a, err := control.NewClient(g.socket).Confirm(cmd.Context())
		return printApplied(cmd, *asJSON, a, err)
	}
	return cmd
}
