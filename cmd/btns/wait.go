package main

import (
	"errors"
	"fmt"
	"time"

	"github.com/spf13/cobra"

	"github.com/btns-ipsec/btns/control"
)

func newWait(g *globals) *cobra.Command {
	cmd := &cobra.Command{
		Use:   "wait HOST",
		Short: "Return when traffic with a host is protected, or say why not",
		Long: `Asks for protection towards a host and waits. Exit code 0: traffic with it is protected. Exit code 1: it is not, and why
stands on the standard error output. Exit code 3: there is no daemon; one that is just starting, as when a machine boots, is
waited for as long as for the peer.`,
		Args: exactly("HOST"),
	}
	asJSON := jsonFlag(cmd)
	timeout := cmd.Flags().Duration("timeout", 30*time.Second, "how long to wait")
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		if *timeout < 0 || *timeout > time.Hour {
			return &usageError{fmt.Sprintf("--timeout %v is not between 0s and 1h", *timeout), cmd.CommandPath()}
		}
		addr, err := resolve(cmd.Context(), args[0])
		if err != nil {
			return err
		}
		client := control.NewClient(g.socket).For(named(args[0]))
		left, err := awaitDaemon(cmd, client, *timeout)
		if err != nil {
			return err
		}
		got, err := client.Wait(cmd.Context(), addr, left)
		if err != nil {
			return err
		}
		w := cmd.OutOrStdout()
		if *asJSON {
			if err := printJSON(w, got); err != nil || !got.Protected {
				return firstError(err, errQuiet)
			}
			return nil
		}
		if !got.Protected {
			return notProtected(got)
		}
		fmt.Fprintf(w, "traffic with %s is protected (%s", got.Addr, got.Assurance)
		if got.Name != "" {
			fmt.Fprintf(w, ", key %s", got.Name)
		}
		fmt.Fprintln(w, ")")
		return nil
	}
	return cmd
}

// awaitDaemon returns when a daemon answers, with what is left of the time.
func awaitDaemon(cmd *cobra.Command, c *control.Client, timeout time.Duration) (left time.Duration, err error) {
	const again = 100 * time.Millisecond
	var none *control.NoDaemonError
	for ends, first := time.Now().Add(timeout), true; ; first = false {
		_, err := c.Version(cmd.Context())
		left := max(time.Until(ends), 0)
		if !errors.As(err, &none) || left < again {
			return left, err
		}
		if first {
			fmt.Fprintf(cmd.ErrOrStderr(), "btns: %v yet; waiting\n", err)
		}
		select {
		case <-cmd.Context().Done():
			return 0, cmd.Context().Err()
		case <-time.After(again):
		}
	}
}

func notProtected(got control.Waited) error {
	err := fmt.Errorf("traffic with %s is not protected (%s)", got.Addr, got.State)
	if got.Why != "" {
		err = fmt.Errorf("%w: %s", err, got.Why)
	}
	if got.Hint != "" {
		return hint(err, "%s", got.Hint)
	}
	return hint(err, "is btns running there? more with: btns explain %s", got.Addr)
}

func firstError(errs ...error) error {
	for _, err := range errs {
		if err != nil {
			return err
		}
	}
	return nil
}
