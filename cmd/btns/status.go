package main

import (
	"fmt"
	"io"
	"slices"
	"strconv"
	"strings"

	"github.com/spf13/cobra"

	"github.com/btns-ipsec/btns/control"
)

func newStatus(g *globals) *cobra.Command {
	cmd := &cobra.Command{
		Use:   "status",
		Short: "Is it working: plane, own key, counts, and what is wrong",
		Args:  exactly(),
	}
	asJSON := jsonFlag(cmd)
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		s, err := control.NewClient(g.socket).Status(cmd.Context())
		if err != nil {
			return err
		}
		if *asJSON {
			return printJSON(cmd.OutOrStdout(), s)
		}
		return printStatus(cmd.OutOrStdout(), s)
	}
	return cmd
}

func printStatus(w io.Writer, s control.Status) error {
	state := "working"
	if !s.Working {
		state = "working, with problems (below)"
	}
	plane := s.Plane
	if s.Device != "" {
		plane += ", device " + s.Device
	}
	if s.MTU > 0 {
		plane += ", MTU " + strconv.Itoa(s.MTU)
	}
	lines := [][2]string{
		{"state", state},
		{"version", s.Version},
		{"plane", plane},
		{"key", s.Name},
		{"since", stamp(&s.Since)},
		{"peers", fmt.Sprintf("%d protected, %d probing, %d in clear, %d refused, %d out of reach", s.Protected, s.Probing, s.Clear, s.Refused, s.Outage)},
		{"SAs", fmt.Sprintf("%d IKE, %d half-open, %d child", s.IKESAs, s.HalfOpen, s.Children)},
		{"pins", fmt.Sprintf("%d recorded", s.Pins)},
		{"probes", fmt.Sprintf("%d tried, %d waiting, %d remembered", s.Probes.Tried, s.Probes.Waiting, s.Probes.Recalled)},
		{"drops", dropText(s.Drops)},
	}
	for _, c := range s.ClearBy {
		source := c.Source
		if source == "" {
			source = "built in"
		}
		lines = append(lines, [2]string{"in clear", fmt.Sprintf("%d bytes in %d packets by %q (%s)", c.OutBytes, c.OutPackets, c.Entry, source)})
	}
	err := pairs(w, lines...)
	for _, p := range s.Problems {
		fmt.Fprintf(w, "problem: %s\n", p)
	}
	return err
}

func dropText(drops map[string]uint64) string {
	var parts []string
	for reason, n := range drops {
		if n > 0 {
			parts = append(parts, fmt.Sprintf("%d %s", n, reason))
		}
	}
	slices.Sort(parts)
	return strings.Join(parts, ", ")
}
