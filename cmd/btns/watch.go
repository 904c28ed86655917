package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/btns-ipsec/btns/control"
)

func newWatch(g *globals) *cobra.Command {
	cmd := &cobra.Command{
		Use:   "watch",
		Short: "Events as they happen, until interrupted",
		Args:  exactly(),
	}
	asJSON := jsonFlag(cmd)
	debug := cmd.Flags().Bool("debug", false, "also what matters only to who looks for a fault")
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		w := cmd.OutOrStdout()
		err := control.NewClient(g.socket).Watch(cmd.Context(), func(e control.Event) error {
			switch {
			case e.Level == "debug" && !*debug:
				return nil
			case *asJSON:
				return printJSON(w, e)
			}
			return printEvent(w, e)
		})
		if errors.Is(err, context.Canceled) {
			return nil // that is how it ends
		}
		if err == nil {
			err = errors.New("the daemon has stopped")
		}
		return err
	}
	return cmd
}

func printEvent(w io.Writer, e control.Event) error {
	line := fmt.Sprintf("%s %-5s %s", e.Time.UTC().Format(time.RFC3339), strings.ToUpper(e.Level), e.Text)
	if e.Suppressed > 0 {
		line += fmt.Sprintf(" (and %d similar)", e.Suppressed)
	}
	if e.Hint != "" {
		line += "\n    hint: " + e.Hint
	}
	_, err := fmt.Fprintln(w, line)
	return err
}
