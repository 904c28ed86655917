package suite

import (
	"bytes"
	"encoding/binary"
	"encoding/json"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/btns-ipsec/btns/identity"
	"github.com/btns-ipsec/btns/protect"
)

// exchange is a recorded conversation of other implementations with all its secrets.
type exchange struct {
	Name       string
	IKESuite   suiteNumbers     `json:"ike_suite"`
	ESPSuite   suiteNumbers     `json:"esp_suite"`
	IKESAs     []recordedSA     `json:"ike_sas"`
	ChildSAs   []recordedChild  `json:"child_sas"`
	Packets    []recordedPacket `json:"packets"`
	PSK        octs             `json:"psk"`
	PublicKeys map[string]octs  `json:"public_keys"`
}

type suiteNumbers struct {
	Encr    protect.Encr
	KeyBits uint16 `json:"key_bits"`
	Integ   protect.Integ
	PRF     PRF
	KE      KE
	AddKE   KE `json:"addke1"`
	ESN     int
}

type recordedSA struct {
	SPIi        octs `json:"spi_i"`
	SPIr        octs `json:"spi_r"`
	Derivation  string
	DerivedFrom int  `json:"derived_from"`
	KESecret    octs `json:"ke_secret"`
	AddKESecret octs `json:"add_ke_secret"`
	KEPrivate   octs `json:"initiator_ke_private"`
	Nonces      octs // Ni | Nr, 32 octets each
	SKEYSEED    octs
	PPK         octs
	D           octs `json:"sk_d"`
	Ai          octs `json:"sk_ai"`
	Ar          octs `json:"sk_ar"`
	Ei          octs `json:"sk_ei"`
	Er          octs `json:"sk_er"`
	Pi          octs `json:"sk_pi"`
	Pr          octs `json:"sk_pr"`
}

type recordedChild struct {
	KESecret    octs `json:"ke_secret"`
	AddKESecret octs `json:"add_ke_secret"`
	Seed        octs // [secret |] Ni | Nr [| further secret]
	SKdOf       int  `json:"sk_d_of"`
	EncrI       octs `json:"encr_i"`
	EncrR       octs `json:"encr_r"`
	IntegI      octs `json:"integ_i"`
	IntegR      octs `json:"integ_r"`
}

type recordedPacket struct {
	N            int
	Kind         string
	UDP          octs
	Dst          string
	IKESA        *int `json:"ike_sa"`
	Initiator    bool `json:"from_original_initiator"`
	Exchange     int
	SKPlaintext  octs `json:"sk_plaintext"`
	FirstPayload byte `json:"first_payload"`
	Reassembled  octs
	IntAuth      octs `json:"int_auth"`
	AuthMethod   byte `json:"auth_method"`
	AuthOctets   octs `json:"auth_signed_octets"`
}

// exchangeFiles finds the recordings, which the repository has beside package ikev2.
func exchangeFiles(t *testing.T) []string {
	t.Helper()
	for _, dir := range []string{
		filepath.Join("..", "testdata", "exchanges"), filepath.Join(vectorDir(), "ikev2-exchanges"),
	} {
		if files, _ := filepath.Glob(filepath.Join(dir, "*.json")); len(files) != 0 {
			return files
		}
	}
	if os.Getenv("CI") == "true" {
		t.Fatal("no recorded exchanges")
	}
	t.Skip("left out: no recorded exchanges")
	return nil
}

// Every key, every SK payload and every AUTH of the recordings (RFC 7296 §2.13 to §2.18, RFC 9242, RFC 9370).
func TestRecordedExchanges(t *testing.T) {
	var opened, proved int
	for _, file := range exchangeFiles(t) {
		b, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		var x exchange
		if err := json.Unmarshal(b, &x); err != nil {
			t.Fatal(file, err)
		}
		t.Run(x.Name, func(t *testing.T) {
			x.complete()
			for i := range x.IKESAs {
				x.checkKeys(t, i)
			}
			for i := range x.ChildSAs {
				x.checkChild(t, i)
			}
			o, p := x.checkPackets(t)
			opened, proved = opened+o, proved+p
		})
	}
	t.Logf("%d SK payloads opened, %d AUTH payloads verified", opened, proved)
	if opened < 100 || proved < 20 {
		t.Error("that is less than there should be")
	}
}

// complete fills in what a recording leaves to its reader.
func (x *exchange) complete() {
	if x.IKESuite.Encr == protect.ChaCha20Poly1305 {
		x.IKESuite.KeyBits = 256
	}
	if x.ESPSuite.Encr == protect.ChaCha20Poly1305 {
		x.ESPSuite.KeyBits = 256
	}
}

func (x *exchange) ike() IKE {
	s := x.IKESuite
	i := IKE{Cipher: Cipher{s.Encr, s.KeyBits, s.Integ}, PRF: s.PRF, KE: s.KE}
	if s.AddKE != NoKE {
		i.AddKE = []KE{s.AddKE}
	}
	return i
}

func (s *recordedSA) keys() Keys { return Keys{s.D, s.Ai, s.Ar, s.Ei, s.Er, s.Pi, s.Pr} }

func halves(nonces []byte) (ni, nr []byte) { return nonces[:len(nonces)/2], nonces[len(nonces)/2:] }

func (x *exchange) checkKeys(t *testing.T, n int) {
	t.Helper()
	s := x.IKESAs[n]
	p := x.IKESuite.PRF
	if s.PPK != nil { // RFC 8784 is not in this package, but its keys sign the AUTH below
		from := x.IKESAs[s.DerivedFrom]
		for _, k := range [][2]octs{{from.D, s.D}, {from.Pi, s.Pi}, {from.Pr, s.Pr}} {
			got, err := p.Plus(s.PPK, k[0], p.Size())
			if err != nil {
				t.Fatal(err)
			}
			same(t, "after the PPK", got, k[1])
		}
		return
	}
	ni, nr := halves(s.Nonces)
	var seed []byte
	switch from := x.IKESAs[s.DerivedFrom]; {
	case s.Derivation == "initial":
		seed = SKEYSEED(p, ni, nr, s.KESecret)
	case !strings.HasPrefix(s.Derivation, "prf(sk_d "):
		t.Fatalf("IKE SA %d: unknown derivation %q", n, s.Derivation)
	case bytes.Equal(s.SPIi, from.SPIi): // IKE_INTERMEDIATE
		seed = IntermediateSKEYSEED(p, from.D, s.KESecret, ni, nr)
	case len(s.AddKESecret) != 0: // IKE_FOLLOWUP_KE
		seed = RekeySKEYSEED(p, from.D, s.KESecret, ni, nr, s.AddKESecret)
	default:
		seed = RekeySKEYSEED(p, from.D, s.KESecret, ni, nr)
	}
	same(t, "SKEYSEED", seed, s.SKEYSEED)
	k, err := DeriveKeys(x.ike(), seed, ni, nr, binary.BigEndian.Uint64(s.SPIi), binary.BigEndian.Uint64(s.SPIr))
	if err != nil {
		t.Fatal(err)
	}
	same(t, "keys", slices.Concat(k.D, k.Ai, k.Ar, k.Ei, k.Er, k.Pi, k.Pr),
		slices.Concat(s.D, s.Ai, s.Ar, s.Ei, s.Er, s.Pi, s.Pr))
	if s.KEPrivate != nil {
		_, ke := find(x.Packets[1].UDP[28:], x.Packets[1].UDP[16], 34)
		secret, err := private(t, x.IKESuite.KE, s.KEPrivate).Shared(ke[4:])
		if err != nil {
			t.Fatal(err)
		}
		same(t, "g^ir", secret, s.KESecret)
	}
}

func (x *exchange) checkChild(t *testing.T, n int) {
	t.Helper()
	c := x.ChildSAs[n]
	nonces := c.Seed[len(c.KESecret) : len(c.Seed)-len(c.AddKESecret)]
	ni, nr := halves(nonces)
	var further [][]byte
	if len(c.AddKESecret) != 0 {
		further = [][]byte{c.AddKESecret}
	}
	e := x.ESPSuite
	i, r, err := ChildKeys(x.IKESuite.PRF, x.IKESAs[c.SKdOf].D, c.KESecret, ni, nr, further,
		protect.Suite{Encr: e.Encr, KeyBits: e.KeyBits, Integ: e.Integ, ESN: e.ESN == 1})
	if err != nil {
		t.Fatal(err)
	}
	same(t, "KEYMAT", slices.Concat(i.Encr, i.Integ, r.Encr, r.Integ), slices.Concat(c.EncrI, c.IntegI, c.EncrR, c.IntegR))
}

func (x *exchange) checkPackets(t *testing.T) (opened, proved int) {
	t.Helper()
	var ints [2][]byte // IntAuth_i, IntAuth_r
	for n, p := range x.Packets {
		if p.Kind != "ike" || p.IKESA == nil {
			continue
		}
		message := x.checkSK(t, n)
		if t.Failed() {
			return opened, proved
		}
		opened++
		who := 1
		if p.Initiator {
			who = 0
		}
		inner := p.SKPlaintext[:len(p.SKPlaintext)-1-int(p.SKPlaintext[len(p.SKPlaintext)-1])]
		if p.Reassembled != nil {
			inner = p.Reassembled
		}
		if p.IntAuth != nil {
			k := x.IKESAs[*p.IKESA].keys()
			skp := [][]byte{k.Pi, k.Pr}[who]
			ints[who] = IntAuth(x.IKESuite.PRF, skp, ints[who], intA(message, p.FirstPayload, len(inner)), inner)
			same(t, "IntAuth", ints[who], p.IntAuth)
		}
		if p.AuthMethod != 0 {
			x.checkAuth(t, n, inner, ints)
			proved++
		}
	}
	return opened, proved
}

// checkSK opens the SK or SKF payload of a packet and seals it again. It returns the message without non-ESP marker.
func (x *exchange) checkSK(t *testing.T, n int) []byte {
	t.Helper()
	p := x.Packets[n]
	message := p.UDP
	if bytes.HasPrefix(message, make([]byte, 4)) {
		message = message[4:]
	}
	start := 32 // no recording has payloads before SK
	switch message[16] {
	case 46:
	case 53:
		start = 36
	default:
		t.Fatalf("packet %d: first payload %d", n, message[16])
	}
	k := x.IKESAs[*p.IKESA].keys()
	var both Protection
	if _, err := both.Set(x.ike().Cipher, k); err != nil {
		t.Fatal(err)
	}
	sk := &both.Responder
	if p.Initiator {
		sk = &both.Initiator
	}
	aad, body := message[:start], message[start:]
	plain, padding, err := sk.Open(nil, aad, body)
	if err != nil {
		t.Fatalf("packet %d: %v", n, err)
	}
	same(t, "plaintext", slices.Concat(plain, padding, []byte{byte(len(padding))}), p.SKPlaintext)
	same(t, "sealed again", sk.seal(sk.made, bytes.Clone(aad), aad, body[:sk.ivLen()], plain, padding), message)
	return message
}

// intA is what of an IKE_INTERMEDIATE message enters IntAuth beside the inner payloads (RFC 9242 §3.3.2).
func intA(message []byte, first byte, inner int) []byte {
	a := bytes.Clone(message[:32])
	a[16], a[28] = 46, first
	binary.BigEndian.PutUint32(a[24:], uint32(32+inner))
	binary.BigEndian.PutUint16(a[30:], uint16(4+inner))
	return a
}

// checkAuth rebuilds what the AUTH payload covers, and verifies it.
func (x *exchange) checkAuth(t *testing.T, n int, inner []byte, ints [2][]byte) {
	t.Helper()
	p := x.Packets[n]
	sa := x.IKESAs[*p.IKESA]
	for _, s := range x.IKESAs {
		if s.PPK != nil && s.DerivedFrom == *p.IKESA {
			sa.Pi, sa.Pr = s.Pi, s.Pr
		}
	}
	ni, nr := halves(sa.Nonces)
	idType, skp, nonce := byte(36), sa.Pr, ni
	if p.Initiator {
		idType, skp, nonce = 35, sa.Pi, nr
	}
	first, id := find(inner, p.FirstPayload, idType)
	_, auth := find(inner, p.FirstPayload, 39)
	if first < 0 || auth == nil {
		t.Fatalf("packet %d: no ID or no AUTH", n)
	}
	var intAuth []byte
	if ints[0] != nil {
		intAuth = IntAuthOctets(ints[0], ints[1], 2) // one IKE_INTERMEDIATE had message ID 1
	}
	init := p.AuthOctets[:binary.BigEndian.Uint32(p.AuthOctets[24:])]
	covered := SignedOctets(x.IKESuite.PRF, skp, init, nonce, id, intAuth)
	same(t, "signed octets", covered, p.AuthOctets)
	var err error
	switch p.AuthMethod {
	case 2:
		err = VerifySharedKeyMAC(x.IKESuite.PRF, x.PSK, covered, auth[4:])
	case 13:
		err = VerifySharedKeyMAC(x.IKESuite.PRF, skp, covered, auth[4:])
	default:
		key, perr := identity.ParsePublicKey(x.PublicKeys[string(id[4:])])
		if perr != nil {
			t.Fatal(perr)
		}
		err = Verify(key, Hashes(), p.AuthMethod, auth[4:], covered)
	}
	if err != nil {
		t.Errorf("packet %d: method %d: %v", n, p.AuthMethod, err)
	}
	if auth[0] != p.AuthMethod {
		t.Errorf("packet %d: method %d", n, auth[0])
	}
}

// find looks for the first payload of a type in a chain; at is -1 without one.
func find(chain []byte, next, want byte) (at int, body []byte) {
	for at = 0; next != 0; {
		n := int(binary.BigEndian.Uint16(chain[at+2:]))
		if next == want {
			return at, chain[at+4 : at+n]
		}
		next = chain[at]
		at += n
	}
	return -1, nil
}
