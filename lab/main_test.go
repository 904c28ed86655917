//go:build lab

package lab

import (
	"os"
	"testing"

	"github.com/btns-ipsec/btns/lab/netlab"
)

func TestMain(m *testing.M) { os.Exit(netlab.Main(m)) }
