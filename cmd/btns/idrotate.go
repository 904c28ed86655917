package main

import (
	"errors"
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/btns-ipsec/btns/control"
	"github.com/btns-ipsec/btns/engine"
)

func newIDRotate(g *globals) *cobra.Command {
	cmd := &cobra.Command{
		Use:   "rotate [--lead 30d | --cancel]",
		Short: "Plan another key for this host, and announce it under the present one",
		Long: `Makes another key, and tells every peer that runs btns, those that are there and those that come, that it will take the place
of the present one: in sessions that the present key authenticates, so that nobody is alarmed and nothing is interrupted when its
time has come. What peers know of the present key, they then know of the new one. "btns id" shows how far it has come.

A host that does not meet this one within the lead is not told, and refuses the new key if it still remembers the old one. Records
last 30 days, so that after a lead of 30 days only hosts that have this one marked as verified may do so. Hosts that name the
present key in their configuration have to be given the new one there.

--cancel takes the plan back.`,
		Args: exactly(),
	}
	asJSON := jsonFlag(cmd)
	lead := cmd.Flags().String("lead", "30d", "how long the new key is announced before it takes over, from 10m to 360d")
	cancel := cmd.Flags().Bool("cancel", false, "end the plan")
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		client := control.NewClient(g.socket)
		if *cancel {
			if cmd.Flags().Changed("lead") {
				return &usageError{"--lead and --cancel exclude each other", cmd.CommandPath()}
			}
			done, err := client.TakeBack(cmd.Context())
			return printDone(cmd, *asJSON, done, err)
		}
		d, err := parseLead(*lead)
		if err != nil {
			return &usageError{err.Error(), cmd.CommandPath()}
		}
		done, err := client.Rotate(cmd.Context(), d)
		if err := printDone(cmd, *asJSON, done, err); err != nil {
			return err
		}
		if d < engine.DefaultLead {
			fmt.Fprintln(cmd.ErrOrStderr(), "btns: note: hosts that this one does not meet within the lead will refuse the new key; records last 30 days")
		}
		return nil
	}
	return cmd
}

// parseLead reads a time in days ("30d") or as Go writes it.
func parseLead(text string) (time.Duration, error) {
	d, err := time.ParseDuration(text)
	if days, ok := strings.CutSuffix(text, "d"); ok {
		var n uint64
		n, err = strconv.ParseUint(days, 10, 16)
		d = time.Duration(n) * 24 * time.Hour
	}
	if err != nil || d < engine.MinLead || d > engine.MaxLead {
		return 0, fmt.Errorf("--lead %s: write a time from 10m to 360d", text)
	}
	return d, nil
}

func newIDRevoke(g *globals) *cobra.Command {
	cmd := &cobra.Command{
		Use:   "revoke --yes | --print",
		Short: "End this host's key for good, because it was stolen",
		Long: `Ends this host's key. Every peer that is there and runs btns is told by a statement that the key itself has signed, and refuses
the key from then on, whoever shows it. That cannot be taken back. This host goes on with another key, which its peers refuse until
they accept it: after comparing it, since whoever has the old key could say the same.

The statement is printed. Carry it to the hosts that were not there: "btns trust revoke --statement FILE" takes it.

--print makes the statement and revokes nothing. Kept apart from this host, it serves when the key is lost altogether.`,
		Args: exactly(),
	}
	asJSON := jsonFlag(cmd)
	yes := cmd.Flags().Bool("yes", false, "do it")
	only := cmd.Flags().Bool("print", false, "print a statement for later, and revoke nothing")
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		client := control.NewClient(g.socket)
		switch {
		case *yes && *only:
			return &usageError{"--yes and --print exclude each other", cmd.CommandPath()}
		case *only:
			x, err := client.Statement(cmd.Context())
			if err != nil {
				return err
			}
			if *asJSON {
				return printJSON(cmd.OutOrStdout(), x)
			}
			fmt.Fprintln(cmd.OutOrStdout(), x.Text)
			return nil
		case !*yes:
			return hint(errors.New("this ends the key of this host for good, and nothing was done yet"),
				"say that you mean it: btns id revoke --yes; for a planned change: btns id rotate")
		}
		return revokeOwn(cmd, client, *asJSON)
	}
	return cmd
}

// revokeOwn has the statement first, so that it is printed whatever goes wrong once the key may have ended.
func revokeOwn(cmd *cobra.Command, client *control.Client, asJSON bool) error {
	before, err := client.ID(cmd.Context())
	if err != nil {
		return err
	}
	statement, err := client.Statement(cmd.Context())
	if err != nil {
		return err
	}
	done, failed := client.RevokeOwn(cmd.Context())
	if failed != nil {
		if id, err := client.ID(cmd.Context()); err == nil && id.Name == before.Name {
			return failed // nothing was done
		}
	}
	done.Text = append(done.Text, statement.Text)
	return errors.Join(failed, printDone(cmd, asJSON, done, nil))
}
