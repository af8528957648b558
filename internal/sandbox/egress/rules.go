package egress

import (
	"net"
	"net/netip"
	"strconv"
	"strings"

	"github.com/ultrafast-ci/ultrafast/steps/fault"
)

// Rules are an allow-list: names of hosts, and addresses.
type Rules struct {
	hosts     []hostRule
	addresses []addressRule
}

type hostRule struct {
	// suffix has a dot before it for "*.example.org", name is "example.org" itself.
	name, suffix string
	port         uint16 // 0: 80 and 443
}

type addressRule struct {
	prefix netip.Prefix
	port   uint16 // 0: every one
}

// ParseRules reads an allow-list. An entry is
//
//	example.org         that host, on the ports 80 and 443
//	*.example.org       every host below it, not itself
//	example.org:8443    on that port
//	10.1.2.0/24         addresses, an address, or one with a port (a version 6
//	127.0.0.1:4873      address then stands in brackets)
//
// A name is allowed to be at public addresses alone. Loopback, private, link-local and
// other special addresses, that of a cloud's metadata service among them, are refused
// unless an entry of the last two forms names them.
func ParseRules(entries []string) (Rules, error) {
	var r Rules
	for _, entry := range entries {
		if err := r.add(entry); err != nil {
			return Rules{}, err
		}
	}
	return r, nil
}

func (r *Rules) add(entry string) error {
	const hint = `write "host", "*.host", "host:port", an address or "address/bits"`
	if prefix, err := netip.ParsePrefix(entry); err == nil {
		r.addresses = append(r.addresses, addressRule{prefix: prefix.Masked()})
		return nil
	}
	host, port := entry, uint16(0)
	if h, p, err := net.SplitHostPort(entry); err == nil {
		n, err := strconv.ParseUint(p, 10, 16)
		if err != nil || n == 0 {
			return fault.New(fault.Usage, hint, "allowed host %q: its port is not 1 to 65535", entry)
		}
		host, port = h, uint16(n)
	}
	if address, err := netip.ParseAddr(host); err == nil {
		r.addresses = append(r.addresses, addressRule{netip.PrefixFrom(address.Unmap(), address.Unmap().BitLen()), port})
		return nil
	}
	name := strings.ToLower(strings.TrimSuffix(host, "."))
	rule := hostRule{name: name, port: port}
	if below, ok := strings.CutPrefix(name, "*."); ok {
		rule, name = hostRule{suffix: "." + below, port: port}, below
	}
	if !validHost(name) {
		return fault.New(fault.Usage, hint, "allowed host %q is neither a host nor an address", entry)
	}
	r.hosts = append(r.hosts, rule)
	return nil
}

// validHost reports whether name is a host name (RFC 1123, section 2.1).
func validHost(name string) bool {
	if name == "" || len(name) > 253 {
		return false
	}
	for label := range strings.SplitSeq(name, ".") {
		if label == "" || len(label) > 63 || label[0] == '-' || label[len(label)-1] == '-' {
			return false
		}
		for _, c := range label {
			if !(c >= 'a' && c <= 'z' || c >= '0' && c <= '9' || c == '-' || c == '_') {
				return false
			}
		}
	}
	return true
}

// host reports whether the name, or address, may be asked for on the port.
func (r Rules) host(host string, port uint16) bool {
	host = strings.ToLower(strings.TrimSuffix(host, "."))
	if address, err := netip.ParseAddr(host); err == nil {
		return r.address(address, port, false)
	}
	for _, rule := range r.hosts {
		onPort := rule.port == port || rule.port == 0 && (port == 80 || port == 443)
		if onPort && (rule.name == host && rule.name != "" || rule.suffix != "" && strings.HasSuffix(host, rule.suffix) && validHost(host)) {
			return true
		}
	}
	return false
}

// address reports whether a connection to the address may be made; named says that it
// is for a host whose name is allowed.
func (r Rules) address(address netip.Addr, port uint16, named bool) bool {
	address = address.Unmap().WithZone("")
	for _, rule := range r.addresses {
		if rule.prefix.Contains(address) && (rule.port == 0 || rule.port == port) {
			return true
		}
	}
	return named && public(address)
}

// special are networks that netip has no word for (IANA special-purpose address
// registries): shared, protocol assignments, documentation, benchmarking, reserved,
// translation to version 4 and 6to4, in which a version 4 address hides.
var special = []netip.Prefix{
	netip.MustParsePrefix("0.0.0.0/8"), netip.MustParsePrefix("100.64.0.0/10"), netip.MustParsePrefix("192.0.0.0/24"),
	netip.MustParsePrefix("192.0.2.0/24"), netip.MustParsePrefix("198.18.0.0/15"), netip.MustParsePrefix("198.51.100.0/24"),
	netip.MustParsePrefix("203.0.113.0/24"), netip.MustParsePrefix("240.0.0.0/4"),
	netip.MustParsePrefix("64:ff9b::/96"), netip.MustParsePrefix("64:ff9b:1::/48"), netip.MustParsePrefix("100::/64"),
	netip.MustParsePrefix("2001::/23"), netip.MustParsePrefix("2001:db8::/32"), netip.MustParsePrefix("2002::/16"), netip.MustParsePrefix("fec0::/10"),
}

// public reports whether the address is one of the Internet's.
func public(address netip.Addr) bool {
	if !address.IsGlobalUnicast() || address.IsPrivate() || address.IsLoopback() || address.IsLinkLocalUnicast() {
		return false
	}
	for _, prefix := range special {
		if prefix.Contains(address) {
			return false
		}
	}
	return true
}
