package main

import (
	"fmt"
	"runtime"
	"runtime/debug"

	"github.com/spf13/cobra"

	"github.com/btns-ipsec/btns/control"
)

// version is set by the linker in releases.
var version = ""

// programVersion falls back on what the Go tool knows of a checkout.
func programVersion() string {
	if version != "" {
		return version
	}
	info, ok := debug.ReadBuildInfo()
	if !ok {
		return "unknown"
	}
	text := info.Main.Version
	if text == "" || text == "(devel)" {
		text = "devel"
		for _, s := range info.Settings {
			if s.Key == "vcs.revision" && len(s.Value) >= 12 {
				text += "-" + s.Value[:12]
			}
		}
	}
	return text
}

func newVersion(g *globals) *cobra.Command {
	cmd := &cobra.Command{
		Use:   "version",
		Short: "The version of this program, and of the daemon if one runs",
		Args:  exactly(),
	}
	asJSON := jsonFlag(cmd)
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		daemon, err := control.NewClient(g.socket).Version(cmd.Context())
		if err != nil {
			daemon.Version = "" // not running, or not ours to ask
		}
		w := cmd.OutOrStdout()
		if *asJSON {
			return printJSON(w, struct {
				Version string `json:"version"`
				Go      string `json:"go"`
				Daemon  string `json:"daemon,omitempty"`
			}{programVersion(), runtime.Version(), daemon.Version})
		}
		fmt.Fprintf(w, "btns %s (%s)\n", programVersion(), runtime.Version())
		if daemon.Version != "" {
			fmt.Fprintf(w, "daemon %s\n", daemon.Version)
		}
		return nil
	}
	return cmd
}
