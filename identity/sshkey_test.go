package identity

import (
	"encoding/hex"
	"errors"
	"strings"
	"testing"
)

// Made by ssh-keygen; the SHA-256 of the SubjectPublicKeyInfo is what ssh-keygen -e -m PKCS8 and openssl make of them.
var sshKeys = []struct{ line, algorithm, spki string }{
	{"ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIEou95tIiosQTTqLiIKYu7uJQkLHVJiRjYTYI+TI6JnR", "Ed25519", ""},
	{
		"ecdsa-sha2-nistp256 AAAAE2VjZHNhLXNoYTItbmlzdHAyNTYAAAAIbmlzdHAyNTYAAABBBDgSQfvoQL9o3x9FluV5wu1ejJfLgL1pzfpJ6A6vYmHzrl8gjM/NioF/EcQPI/GZS/Hz/3ooHlAw+8SV7n4xqnA=",
		"ECDSA P-256", "60c43ec433a1e6cf233b30498d40b843d0ed93a48c15e6139ffb83548f539db7",
	},
	{
		"ecdsa-sha2-nistp384 AAAAE2VjZHNhLXNoYTItbmlzdHAzODQAAAAIbmlzdHAzODQAAABhBNfh2TlbZ/3+hHNMUDd7e7PeSmSknrr8z3lars1a0yF4oL500ETYQdjLRnfHckzjYLO1EC6yAueU0Ju6atYze5jFf3XatLc2Xlxn+vGsCL0Wlv4AGypcSQ+HlCa7VFdffg==",
		"ECDSA P-384", "9d8419b6ddfad670d8707cebacba8705b977e5c3b560f10f0b70d52ad464c4f9",
	},
	{
		"ssh-rsa AAAAB3NzaC1yc2EAAAADAQABAAABAQDCnlccDTBSgajlzGL2xJpErjbeE4M3XqnTR5F0fgW1DAHVWaoHOY7SC+MvIMM4yxPDATNXQxzHKBJ12qO2HvqohKzY8t3G7pZAywjvJnYbq8B+X3hF5seIK2fnqB2IpYE1oI9I4lDUO2xh5kAagBXL19YiF7sazi9IldvYCKROEx0WMRAZLws99ZPfABUuqPhJ0VNXk07nbeJ8G5qzXoTQXG7oLQ6ILxyKHg/LihhH/bYitlUX9qKxGFeaaKFs9jTBkAtsqWPS4W+PEg5tb1Q+BfXcH3F5UjDPHjK4jDeBrP9lfdVp+iTiA9J/Lhu6hnIkdKLqK93LlaKmqAAQBNI7",
		"RSA 2048", "72f7f94d1153927ad6bf2b6c55d482c68ca660845a27e4fa40c7fa125ebaa239",
	},
}

func TestSSHKeys(t *testing.T) {
	for _, c := range sshKeys {
		algorithm, text, _ := strings.Cut(c.line, " ")
		k, err := ParseSSHKey(algorithm, text)
		if err != nil || k.Algorithm() != c.algorithm || !IsSSHAlgorithm(algorithm) {
			t.Fatalf("%s: %v, %v", algorithm, k.Algorithm(), err)
		}
		if f := k.Fingerprint(); c.spki != "" && hex.EncodeToString(f[:]) != c.spki {
			t.Errorf("%s: %x", algorithm, f)
		}
		for name, bad := range map[string]string{"cut": text[:len(text)-8], "empty": "", "no base64": "!", "longer": text + "AAAA"} {
			if _, err := ParseSSHKey(algorithm, bad); !errors.Is(err, ErrKey) {
				t.Errorf("%s, %s: %v", algorithm, name, err)
			}
		}
		if _, err := ParseSSHKey("ssh-dss", text); !errors.Is(err, ErrKey) || IsSSHAlgorithm("ssh-dss") {
			t.Errorf("%s as another: %v", algorithm, err)
		}
	}
}

func FuzzSSHKey(f *testing.F) {
	for _, c := range sshKeys {
		algorithm, text, _ := strings.Cut(c.line, " ")
		f.Add(algorithm, text)
	}
	f.Fuzz(func(t *testing.T, algorithm, text string) {
		k, err := ParseSSHKey(algorithm, text)
		if err != nil {
			return
		}
		if again, err := ParsePublicKey(k.SPKI()); err != nil || again != k {
			t.Fatalf("%v, %v", again, err)
		}
	})
}
