package config

import (
	"runtime"

	"golang.org/x/sys/cpu"
)

// fastAES reports whether AES-GCM is the quick cipher on this machine, and free of tables whose use can be watched. Where
// the processor does not help, ChaCha20-Poly1305 is both.
func fastAES() bool {
	switch runtime.GOARCH {
	case "amd64":
		return cpu.X86.HasAES && cpu.X86.HasPCLMULQDQ
	case "arm64":
		return cpu.ARM64.HasAES && cpu.ARM64.HasPMULL
	case "s390x":
		return cpu.S390X.HasAES && cpu.S390X.HasAESGCM
	case "ppc64le":
		return true
	}
	return false
}
