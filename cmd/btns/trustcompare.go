package main

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"net/netip"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/btns-ipsec/btns/control"
)

func newTrustCompare(g *globals) *cobra.Command {
	cmd := &cobra.Command{
		Use:   "compare HOST [--same WORDS | --differ WORDS]",
		Short: "Compare the session with a host, together with somebody who sits there",
		Long: `Two people who are in touch with each other, by telephone for example, say this at about the same time, each with the other's
host. Both then see two words and six digits. When they are the same, nobody sits in between: say yes, and the key of the other host
is marked as verified. When they differ, somebody does: say no, and an alarm is raised.

The words serve once. Who would forge them has one chance in four million, or in one million where people read the
digits, and that each time is seen.

Without a terminal: --json prints them and asks nothing. "btns trust compare HOST --same WORDS" then says that they were the same
at both ends, --differ WORDS that they were not; WORDS are those that were printed here.`,
		Args: exactly("HOST"),
	}
	asJSON := jsonFlag(cmd)
	same := cmd.Flags().String("same", "", "these words, printed before, are the same at both ends")
	differ := cmd.Flags().String("differ", "", "these words, printed before, are others there")
	timeout := cmd.Flags().Duration("timeout", 2*time.Minute, "how long to wait for the other side")
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		if *same != "" && *differ != "" {
			return &usageError{"--same and --differ exclude each other", cmd.CommandPath()}
		}
		addr, err := resolve(cmd.Context(), args[0])
		if err != nil {
			return err
		}
		client := control.NewClient(g.socket)
		if said := *same + *differ; said != "" {
			words := strings.ToUpper(strings.Join(strings.Fields(said), " "))
			done, err := client.Compared(cmd.Context(), addr, words, *same != "")
			return printDone(cmd, *asJSON, done, err)
		}
		if !*asJSON {
			fmt.Fprintf(cmd.ErrOrStderr(), "btns: waiting until somebody says the same on %s, with this host\n", args[0])
		}
		x, err := await(cmd, client, addr, *timeout)
		if err != nil {
			return err
		}
		if *asJSON {
			return printJSON(cmd.OutOrStdout(), x)
		}
		return ask(cmd, client, addr, x)
	}
	return cmd
}

func await(cmd *cobra.Command, client *control.Client, addr netip.Addr, timeout time.Duration) (control.Comparison, error) {
	ctx, cancel := context.WithTimeout(cmd.Context(), timeout)
	defer cancel()
	x, err := client.Compare(ctx, addr)
	if errors.Is(err, context.DeadlineExceeded) {
		return x, hint(errors.New("nobody has begun on the other host in time"),
			"say at both ends, at about the same time: btns trust compare HOST")
	}
	return x, err
}

// ask shows what is to be compared, and takes the answer.
func ask(cmd *cobra.Command, client *control.Client, addr netip.Addr, x control.Comparison) error {
	w := cmd.OutOrStdout()
	fmt.Fprintf(w, "the key of %s, for those who would rather compare that with `btns id` there:\n", x.Addr)
	if err := pairs(w, [2]string{"fingerprint", x.Name}, [2]string{"words", x.Words}, [2]string{"assurance", x.Assurance}); err != nil {
		return err
	}
	printArt(w, x.Name, "")
	fmt.Fprintf(w, "\nthe session: read this to the person at %s\n\n    %s    (%s)\n\nIs it the same there? [yes/no] ", x.Addr, x.ShortWords, x.ShortDigits)
	in := bufio.NewReader(io.LimitReader(cmd.InOrStdin(), 1<<16))
	for {
		line, err := in.ReadString('\n')
		switch strings.ToLower(strings.TrimSpace(line)) {
		case "yes", "y":
			done, err := client.Compared(cmd.Context(), addr, x.ShortWords, true)
			return printDone(cmd, false, done, err)
		case "no", "n":
			if _, err := client.Compared(cmd.Context(), addr, x.ShortWords, false); err != nil {
				return err
			}
			return hint(fmt.Errorf("somebody sits between this host and %s; nothing was verified", x.Addr),
				"nothing that goes there is secret; to refuse that key: btns trust revoke %s", x.Name)
		}
		if err != nil {
			fmt.Fprintln(w)
			return hint(errors.New("no answer: nothing was verified"), "if they were the same: btns trust compare %s --same %q", x.Addr, x.ShortWords)
		}
		fmt.Fprint(w, "Please say yes or no: ")
	}
}
