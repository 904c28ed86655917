package main

import (
	"fmt"
	"strings"

	"github.com/spf13/cobra"
)

const about = `btns protects the IP traffic between hosts that have never heard of each other.

  btns up                 on each host, as root: protect traffic with all hosts that run btns too
  btns wait HOST          returns when traffic with HOST is protected, or says why it is not
  btns peers              who is on the other end, and how well that is known
  btns explain HOST       why traffic with HOST is treated as it is, and what to do

The first contact with a host is a leap of faith: compare "btns id" there with "btns peers" here to close it. From then on
its key must stay the same; when it changes, traffic stops until you say "btns trust accept".`

// globals are the flags that every command has.
type globals struct {
	socket string
}

func newRoot() *cobra.Command {
	g := &globals{}
	root := group(&cobra.Command{
		Use:               "btns",
		Short:             "Better-Than-Nothing Security: IPsec without configuration",
		Long:              about,
		SilenceErrors:     true, // execute prints them
		SilenceUsage:      true,
		CompletionOptions: cobra.CompletionOptions{HiddenDefaultCmd: false},
	})
	root.PersistentFlags().StringVar(&g.socket, "socket", defaultSocket(), "the socket of the daemon")
	root.SetFlagErrorFunc(func(cmd *cobra.Command, err error) error {
		return &usageError{err.Error(), cmd.CommandPath()}
	})
	root.AddCommand(
		newUp(g), newStatus(g), newPeers(g), newID(g), newDown(g), newWatch(g), newTrust(g),
		newExplain(g), newWait(g), newConfig(), newReload(g), newPolicy(g), newDemo(), newVersion(g),
	)
	root.SetHelpCommand(newHelp())
	root.InitDefaultCompletionCmd()
	for _, c := range root.Commands() {
		if c.Name() == "completion" {
			group(c)
			for _, shell := range c.Commands() {
				shell.Args = exactly()
			}
		}
	}
	return root
}

func newHelp() *cobra.Command {
	return &cobra.Command{
		Use:   "help [COMMAND]",
		Short: "Help about a command",
		RunE: func(cmd *cobra.Command, args []string) error {
			about, rest, err := cmd.Root().Find(args)
			if err != nil || len(rest) > 0 {
				return &usageError{fmt.Sprintf("unknown command %q", strings.Join(args, " ")), cmd.Root().Name()}
			}
			return about.Help()
		},
	}
}

// group makes a command that only holds others refuse what it does not know.
func group(c *cobra.Command) *cobra.Command {
	c.Args = cobra.ArbitraryArgs
	c.SuggestionsMinimumDistance = 2
	c.RunE = func(cmd *cobra.Command, args []string) error {
		if len(args) == 0 {
			return &usageError{"which command?", cmd.CommandPath()}
		}
		text := fmt.Sprintf("unknown command %q", args[0])
		if near := cmd.SuggestionsFor(args[0]); len(near) > 0 {
			text += "; did you mean " + strings.Join(near, " or ") + "?"
		}
		return &usageError{text, cmd.CommandPath()}
	}
	return c
}

// exactly demands arguments with these names.
func exactly(names ...string) cobra.PositionalArgs {
	return func(cmd *cobra.Command, args []string) error {
		switch {
		case len(args) < len(names):
			return &usageError{"missing " + names[len(args)], cmd.CommandPath()}
		case len(args) > len(names):
			return &usageError{fmt.Sprintf("unexpected argument %q", args[len(names)]), cmd.CommandPath()}
		}
		return nil
	}
}

// atMost allows this many arguments.
func atMost(n int) cobra.PositionalArgs {
	return func(cmd *cobra.Command, args []string) error {
		if len(args) > n {
			return &usageError{fmt.Sprintf("unexpected argument %q", args[n]), cmd.CommandPath()}
		}
		return nil
	}
}
