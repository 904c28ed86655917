package decider

import (
	"os"
	"testing"
)

func TestMayReadFiles(t *testing.T) { go os.Getpid() }
