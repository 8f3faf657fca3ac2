package consent

import "testing"

func TestASecretThatNamesHostsAllowsTheseOnly(t *testing.T) {
	tests := map[string]struct {
		hosts, host string
		allowed     bool
	}{
		"the name itself":                  {"web.example.com", "web.example.com", true},
		"in other letters, with a dot":     {"Web.Example.com.", "web.example.com", true},
		"another name":                     {"web.example.com", "evil.example.com", false},
		"a name behind it":                 {"web.example.com", "web.example.com.evil.net", false},
		"one of several":                   {"db.example.com, web-*.example.com", "web-1.example.com", true},
		"a pattern for subdomains":         {"*.example.com", "a.b.example.com", true},
		"the domain is no subdomain":       {"*.example.com", "example.com", false},
		"a name that only ends like it":    {"*.example.com", "evilexample.com", false},
		"an address in a range":            {"10.0.0.0/8", "10.1.2.3", true},
		"an address beside the range":      {"10.0.0.0/8", "11.1.2.3", false},
		"the address itself":               {"10.1.2.3", "10.1.2.3", true},
		"an IPv6 address in a range":       {"2001:db8::/32", "2001:db8::1", true},
		"a name is in no range":            {"0.0.0.0/0", "web.example.com", false},
		"a name that begins like a range":  {"10.*", "10.evil.com", false},
		"an address matches no pattern":    {"*.0.0.1", "10.0.0.1", false},
		"a star alone names no host":       {"*", "web.example.com", false},
		"nothing is named":                 {"", "web.example.com", false},
		"only a comma":                     {",", "web.example.com", false},
		"what is no host allows nothing":   {"https://web.example.com", "web.example.com", false},
		"brackets are no part of patterns": {"[a-z]*.example.com", "web.example.com", false},
	}
	for name, tc := range tests {
		t.Run(name, func(t *testing.T) {
			if got := Allows(tc.hosts, tc.host); got != tc.allowed {
				t.Errorf("Allows(%q, %q) = %t", tc.hosts, tc.host, got)
			}
		})
	}
}
