package main

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
)

// A network namespace is a host of its own, with its own key and its own daemon: in one other than that of process 1, the
// default paths are below these, by the name that `ip netns` gave it.
const (
	stateDir   = "/var/lib/btns"
	runtimeDir = "/run/btns"
)

func defaultState() string  { return filepath.Join(stateDir, namespace()) }
func defaultSocket() string { return filepath.Join(runtimeDir, namespace(), "btns.sock") }

// namespace is empty in the namespace of process 1, and where that cannot be found out.
func namespace() string {
	own, err := os.Readlink("/proc/self/ns/net")
	first, err1 := os.Readlink("/proc/1/ns/net")
	if errors.Join(err, err1) != nil || own == first {
		return ""
	}
	if name := namespaceName(); name != "" {
		return filepath.Join("netns", name)
	}
	return filepath.Join("netns", strings.Trim(strings.ReplaceAll(own, ":", ""), "[]"))
}

func namespaceName() string {
	const dir = "/run/netns"
	self, err := os.Stat("/proc/self/ns/net")
	if err != nil {
		return ""
	}
	names, err := os.ReadDir(dir)
	if err != nil {
		return ""
	}
	for _, n := range names {
		if info, err := os.Stat(filepath.Join(dir, n.Name())); err == nil && os.SameFile(info, self) {
			return n.Name()
		}
	}
	return ""
}
