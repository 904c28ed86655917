package config

import (
	"bytes"
	"encoding/base64"
	"encoding/pem"
	"errors"
	"fmt"
	"os"
	"reflect"
	"strings"
	"testing"

	"github.com/pelletier/go-toml/v2"
)

// every is a document with every key that there is, in three tables of each kind: what a list of words may hold is the
// fuzzer's to find out.
func every() []byte {
	var b bytes.Buffer
	table := func(s reflect.Type) {
		for i := range s.NumField() {
			f := s.Field(i)
			name := f.Tag.Get("toml")
			switch f.Type.Kind() {
			case reflect.String, reflect.Interface:
				fmt.Fprintf(&b, "%s = %q\n", name, name)
			case reflect.Bool, reflect.Pointer:
				fmt.Fprintf(&b, "%s = true\n", name)
			case reflect.Slice:
				if f.Type.Elem().Kind() == reflect.String {
					fmt.Fprintf(&b, "%s = [%q]\n", name, name)
				}
			}
		}
	}
	table(reflect.TypeFor[file]())
	for i := range reflect.TypeFor[file]().NumField() {
		f := reflect.TypeFor[file]().Field(i)
		switch {
		case f.Type.Kind() == reflect.Struct:
			fmt.Fprintf(&b, "[%s]\n", f.Tag.Get("toml"))
			table(f.Type)
		case f.Type.Kind() == reflect.Slice && f.Type.Elem().Kind() == reflect.Struct:
			for range 3 {
				fmt.Fprintf(&b, "[[%s]]\n", f.Tag.Get("toml"))
				table(f.Type.Elem())
			}
		}
	}
	return b.Bytes()
}

// The document with every key is one: no key is unknown, and every wrong value is told with its line.
func TestEveryKeyIsRead(t *testing.T) {
	text := every()
	var f file
	if err := toml.NewDecoder(bytes.NewReader(text)).DisallowUnknownFields().Decode(&f); err != nil {
		t.Fatalf("%v\n%s", err, text)
	}
	_, err := parse(t, string(text))
	var e *Error
	if !errors.As(err, &e) || e.Line == 0 || strings.Count(err.Error(), "\n") < 20 {
		t.Errorf("%v", err)
	}
}

// seeds are documents that reach all parts of the reader.
func seedDocuments(f *testing.F) (out [][]byte) {
	full, err := os.ReadFile("testdata/full.toml")
	if err != nil {
		f.Fatal(err)
	}
	manual, err := os.ReadFile("../docs/config.md")
	if err != nil {
		f.Fatal(err)
	}
	out = append(out, full, every())
	for rest := string(manual); ; {
		_, after, ok := strings.Cut(rest, "```toml\n")
		if !ok {
			break
		}
		example, tail, _ := strings.Cut(after, "```")
		out, rest = append(out, []byte(example)), tail
	}
	peer := "peer = [{name = 'x', address = '192.0.2.1', auth = 'rawkey', key = %s}]\n"
	k := signer(f, 2).Public
	for _, key := range []string{"'SHA256:x'", "'" + k.Fingerprint().String() + "'", "'" + base64.StdEncoding.EncodeToString(k.SPKI()) + "'", "['peer-key.pem', 'peer-cert.pem']", "3", "[]"} {
		out = append(out, fmt.Appendf(nil, peer, key))
	}
	for _, text := range []string{
		"a.b.c = 1\n[a.b]\n'q\"' = {x = {y = 1}}", "[[peer]]\n[peer.x]\n[[peer.x]]\n", "probe = ['192.0.2.0/24', 3]\n", "probe = {}\n",
		"[[policy]]\nremote = ['any tcp/22', '192.0.2.1-192.0.2.9 udp/1-9', 'any6 icmpv6/128:0', '::/0 opaque', 'any 47']\naction = 'discard'\n",
		"[[policy]]\naction='protect'\nmin_assurance='verified'\nwaiting='hold'\nfallback='prefer'\nesp=['aes128gcm16-noesn-x25519']\nrekey='9h'\n",
		"[default]\nnull_ok = true\nfallback = 'require'\nunknown_peers = false\n", forAll + gate, "[x509]\nca = ['ca.pem', 'bundle.pem', 'x.pem']\n[[peer]]\nauth = 'x509'\nid = '*, O=Example, C=DE'\n",
		"[[peer]]\nauth = 'psk'\nid = '192.0.2.0/24'\npsk = 'x'\n", gate + "ca = 3\ncertificate = 'alone.pem'\nown_key = 'other.key'\nlocal_id = 'CN=a+OU=b'\n",
		"\xff\x00", "x = 1979-05-27T07:32:00Z\n", "[[peer]]\npsk='0xzz'\nauth='psk'\naddress='::1'\n",
	} {
		out = append(out, []byte(text))
	}
	return out
}

// FuzzParse: no document panics; one that is refused is refused with a reason that has a place; one that is taken is a
// complete configuration, the same each time, of which all can be said that commands say.
func FuzzParse(f *testing.F) {
	all := files(f)
	all["x.pem"] = pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: []byte{1}})
	for _, text := range seedDocuments(f) {
		f.Add(text)
	}
	read := func(name string) ([]byte, error) {
		if b, ok := all[name]; ok {
			return b, nil
		}
		return nil, os.ErrNotExist
	}
	f.Fuzz(func(t *testing.T, text []byte) {
		positions(text)
		c, err := Parse("f", text, read)
		if (c == nil) != (err != nil) {
			t.Fatal(c, err)
		}
		if err != nil {
			var e *Error
			if !errors.As(err, &e) || e.Text == "" {
				t.Fatalf("refused without a reason: %v", err)
			}
			return
		}
		h := c.Host()
		if h.Policy == nil || len(h.Peers) != len(c.Peers) {
			t.Fatalf("incomplete: %+v", h)
		}
		again, err := Parse("f", text, read)
		if err != nil || !reflect.DeepEqual(c.Policy, again.Policy) || !reflect.DeepEqual(c.Lint(), again.Lint()) {
			t.Fatalf("read again, it is another: %v", err)
		}
		for i := range c.Peers {
			if s := fmt.Sprintf("%+v", c.Peers[i]); len(c.Peers[i].Secret) > 8 && strings.Contains(s, string(c.Peers[i].Secret)) {
				t.Fatalf("%s shows the secret", s)
			}
		}
	})
}
