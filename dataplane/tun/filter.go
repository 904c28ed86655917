//go:build linux

package tun

import (
	"errors"
	"fmt"
	"net/netip"

	"github.com/google/nftables"
	"golang.org/x/sys/unix"

	"github.com/btns-ipsec/btns/dataplane/flow"
)

// tableName is that of the plane's tables in nftables. What is in them closes protected prefixes even when the plane has
// died.
const tableName = "btns"

// filter keeps clear text from and to protected prefixes off the host, and has packets pass strict reverse-path filters
// although the way back is by the device.
type filter struct {
	cfg    Config
	device string
	nft    *nftables.Conn
	table  *nftables.Table
	arp    *nftables.Table
	sets   [4]setPair    // closed hosts, closed nets, open hosts, open nets
	covers *nftables.Set // interfaces where the redirector takes what should be protected
	in     map[netip.Prefix]int
	dirty  bool
}

// setPair is the set of one kind for IPv4 and IPv6.
type setPair [2]*nftables.Set

// The sets. Single addresses are hashed, so that ten thousand are as quick as one.
const (
	closedHosts = iota
	closedNets
	openHosts // Upgrade: clear text still passes
	openNets
)

var setNames = [...]string{"closed", "closed-net", "open", "open-net"}

// memo is a chain without rules. Its name says that the setting was off before: a plane that is killed cannot restore it.
const memo = "src-valid-mark-was-off"

// markSetting has the mark count when the way back is looked up (strict rp_filter).
const markSetting = "net/ipv4/conf/all/src_valid_mark"

func openFilter(c Config, device string) (f *filter, err error) {
	f = &filter{cfg: c, device: device, in: make(map[netip.Prefix]int)}
	if f.nft, err = nftables.New(nftables.AsLasting()); err != nil {
		return nil, fmt.Errorf("tun: nftables: %w", err)
	}
	if err = dropTables(f.nft); err == nil {
		err = f.build()
	}
	if err != nil {
		_ = f.nft.CloseLasting()
		return nil, fmt.Errorf("tun: nftables: %w", err)
	}
	return f, nil
}

// dropTables removes the plane's tables if they are there.
func dropTables(c *nftables.Conn) error {
	tables, err := c.ListTables()
	if err != nil {
		return err
	}
	for _, t := range tables {
		if t.Name == tableName && (t.Family == nftables.TableFamilyINet || t.Family == nftables.TableFamilyARP) {
			recall(c, t)
			c.DelTable(t)
		}
	}
	return c.Flush()
}

// recall restores the setting that the memo in a table is about.
func recall(c *nftables.Conn, t *nftables.Table) {
	if _, err := c.ListChain(t, memo); err == nil {
		_ = writeSetting(markSetting, "0")
	}
}

func (f *filter) build() error {
	f.table = f.nft.AddTable(&nftables.Table{Name: tableName, Family: nftables.TableFamilyINet})
	for kind := range f.sets {
		for fam := range 2 {
			s := &nftables.Set{
				Table: f.table, Name: fmt.Sprintf("%s%d", setNames[kind], 4+2*fam),
				KeyType:  [...]nftables.SetDatatype{nftables.TypeIPAddr, nftables.TypeIP6Addr}[fam],
				Interval: kind == closedNets || kind == openNets,
			}
			f.sets[kind][fam] = s
			if err := f.nft.AddSet(s, nil); err != nil {
				return err
			}
		}
	}
	f.covers = &nftables.Set{Table: f.table, Name: "covered", KeyType: nftables.TypeIFName}
	if err := f.nft.AddSet(f.covers, nil); err != nil {
		return err
	}
	f.arrivals()
	f.departures()
	if v, err := readSetting(markSetting); err == nil && v == "0" {
		f.nft.AddChain(&nftables.Chain{Name: memo, Table: f.table})
	}
	f.arp = f.nft.AddTable(&nftables.Table{Name: tableName, Family: nftables.TableFamilyARP})
	f.neighbours()
	if err := f.nft.Flush(); err != nil {
		return err
	}
	return writeSetting(markSetting, "1")
}

// set puts a prefix into the set of its state.
func (f *filter) set(p netip.Prefix, s flow.State) {
	kind := closedHosts
	if s == flow.Upgrade {
		kind = openHosts
	}
	if !p.IsSingleIP() {
		kind++
	}
	old, ok := f.in[p]
	if ok && old == kind {
		return
	}
	if ok {
		_ = f.nft.SetDeleteElements(f.sets[old][family(p.Addr())], elements(p))
	}
	f.in[p] = kind
	f.dirty = true
	_ = f.nft.SetAddElements(f.sets[kind][family(p.Addr())], elements(p)) // fails for maps only
}

func (f *filter) forget(p netip.Prefix) {
	if kind, ok := f.in[p]; ok {
		delete(f.in, p)
		f.dirty = true
		_ = f.nft.SetDeleteElements(f.sets[kind][family(p.Addr())], elements(p))
	}
}

// cover leaves an interface to the redirector. Its program stays there if the plane dies, and drops.
func (f *filter) cover(name string) {
	f.dirty = true
	_ = f.nft.SetAddElements(f.covers, []nftables.SetElement{{Key: interfaceName(name)}})
}

// elements is a prefix as elements of a set: one, or an interval.
func elements(p netip.Prefix) []nftables.SetElement {
	from := p.Addr().AsSlice()
	if p.IsSingleIP() {
		return []nftables.SetElement{{Key: from}}
	}
	end := beyond(p)
	return []nftables.SetElement{{Key: from}, {Key: end, IntervalEnd: true}}
}

// beyond is the first address behind a prefix; it may wrap to zero, as nftables writes the end of all.
func beyond(p netip.Prefix) []byte {
	b := p.Masked().Addr().AsSlice()
	if p.Bits() == 0 {
		return b
	}
	i, step := (p.Bits()-1)/8, byte(1)<<(7-(p.Bits()-1)%8)
	b[i] += step
	for carry := b[i] < step; carry && i > 0; carry = b[i] == 0 {
		i--
		b[i]++
	}
	return b
}

// commit carries out what set and forget noted, in one transaction.
func (f *filter) commit() error {
	if !f.dirty {
		return nil
	}
	f.dirty = false
	if err := f.nft.Flush(); err != nil {
		return fmt.Errorf("tun: nftables: %w", err)
	}
	return nil
}

func (f *filter) close() error {
	err := dropTables(f.nft)
	if e := f.nft.CloseLasting(); err == nil {
		err = e
	}
	if err != nil && !errors.Is(err, unix.ENOENT) {
		return fmt.Errorf("tun: nftables: %w", err)
	}
	return nil
}
