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
	err := pairs(w,
		[2]string{"state", state},
		[2]string{"version", s.Version},
		[2]string{"plane", plane},
		[2]string{"key", s.Name},
		[2]string{"since", stamp(&s.Since)},
		[2]string{"peers", fmt.Sprintf("%d protected, %d probing, %d in clear, %d refused, %d out of reach", s.Protected, s.Probing, s.Clear, s.Refused, s.Outage)},
		[2]string{"SAs", fmt.Sprintf("%d IKE, %d half-open, %d child", s.IKESAs, s.HalfOpen, s.Children)},
		[2]string{"pins", fmt.Sprintf("%d recorded", s.Pins)},
		[2]string{"probes", fmt.Sprintf("%d tried, %d waiting, %d remembered", s.Probes.Tried, s.Probes.Waiting, s.Probes.Recalled)},
		[2]string{"drops", dropText(s.Drops)},
	)
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
