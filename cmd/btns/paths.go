package main

import (
	"os"
	"path/filepath"
)

// A network namespace that `ip netns` has named is a host of its own, with its own key and its own daemon: there, the
// default paths are below these, by that name.
const (
	stateDir   = "/var/lib/btns"
	runtimeDir = "/run/btns"
	netnsDir   = "/run/netns"
)

func defaultState() string  { return filepath.Join(stateDir, namespace()) }
func defaultSocket() string { return filepath.Join(runtimeDir, namespace(), "btns.sock") }

// namespace is empty in a namespace without a name.
func namespace() string {
	self, err := os.Stat("/proc/self/ns/net")
	if err != nil {
		return ""
	}
	names, err := os.ReadDir(netnsDir)
	if err != nil {
		return ""
	}
	for _, n := range names {
		if info, err := os.Stat(filepath.Join(netnsDir, n.Name())); err == nil && os.SameFile(info, self) {
			return filepath.Join("netns", n.Name())
		}
	}
	return ""
}
