package operator

import (
	"flag"
	"io"
	"net/netip"
	"strings"
	"testing"
)

func parse(arguments ...string) (Options, error) {
	flags := flag.NewFlagSet("manager", flag.ContinueOnError)
	flags.SetOutput(io.Discard)
	var o Options
	o.Register(flags)
	if err := flags.Parse(arguments); err != nil {
		return o, err
	}
	return o, o.Validate()
}

func TestBadFlagsAreRefusedWithTheNextStep(t *testing.T) {
	tests := map[string]struct {
		arguments []string
		says      string
	}{
		"an address without a prefix length": {[]string{"--allow-cidrs=127.0.0.1"}, "127.0.0.1/32"},
		"something that is no CIDR":          {[]string{"--allow-cidrs=localhost"}, "127.0.0.0/8"},
		"a namespace with a capital":         {[]string{"--watch-namespaces=prod,Test"}, `"Test"`},
		"an empty name among namespaces":     {[]string{"--watch-namespaces=prod,"}, `""`},
		"a pattern of namespaces":            {[]string{"--watch-namespaces=team-*"}, `"team-*"`},
		"an empty replica name":              {[]string{"--replica-name="}, "--replica-name"},
		"a negative drain timeout":           {[]string{"--drain-timeout=-1s"}, "--drain-timeout"},
		"profiles for every host":            {[]string{"--pprof-bind-address=:6060"}, "loopback"},
		"profiles for other hosts":           {[]string{"--pprof-bind-address=10.0.0.1:6060"}, "127.0.0.1:6060"},
		"profiles on a name":                 {[]string{"--pprof-bind-address=localhost:6060"}, "127.0.0.1:6060"},
		"profiles without a port":            {[]string{"--pprof-bind-address=127.0.0.1"}, "an IP and a port"},
		"profiles on any port":               {[]string{"--pprof-bind-address=127.0.0.1:0"}, "an IP and a port"},
		"an unknown flag":                    {[]string{"--allow-cidr=::1/128"}, "allow-cidr"},
		"a certificate without its key":      {[]string{"--tls-cert-file=/tls/tls.crt"}, "--tls-private-key-file"},
		"a key in another directory":         {[]string{"--tls-cert-file=/a/tls.crt", "--tls-private-key-file=/b/tls.key"}, "one directory"},
		"no namespace for own certificates":  {[]string{"--live-namespace="}, "--live-namespace"},
		"a negative number of streams":       {[]string{"--live-namespace=x", "--max-streams-per-pool=-1"}, "--max-streams-per-pool"},
		"a negative number of forwards":      {[]string{"--live-namespace=x", "--max-forwarded-connections=-1"}, "--max-forwarded-connections"},
		"a share that is a percentage":       {[]string{"--live-namespace=x", "--namespace-share=12.5"}, "0.125"},
	}
	for name, tc := range tests {
		t.Run(name, func(t *testing.T) {
			if _, err := parse(tc.arguments...); err == nil || !strings.Contains(err.Error(), tc.says) {
				t.Errorf("%v: error %v, want it to contain %s", tc.arguments, err, tc.says)
			}
		})
	}
}

func TestProfilesAreOffUnlessALoopbackAddressIsGiven(t *testing.T) {
	for _, address := range []string{"", "0", "127.0.0.1:6060", "[::1]:6060"} {
		o, err := parse("--live-bind-address=0", "--pprof-bind-address="+address)
		if err != nil || o.managerOptions().PprofBindAddress != address {
			t.Errorf("%q: profiles are at %q, error %v", address, o.managerOptions().PprofBindAddress, err)
		}
	}
}

func TestTheControlPlaneIsNoTarget(t *testing.T) {
	t.Setenv("KUBERNETES_SERVICE_HOST", "10.96.0.1")
	o, err := parse("--live-bind-address=0", "--allow-cidrs=127.0.0.0/8,::1/128", "--allow-cidrs=169.254.10.0/24", "--deny-cidrs=10.7.0.0/16")
	if err != nil {
		t.Fatal(err)
	}
	policy := o.policy()
	for address, allowed := range map[string]bool{
		"10.96.0.1": false, "10.96.0.2": true, "127.0.0.1": true, "::1": true, "169.254.10.9": true, "169.254.169.254": false, "10.7.0.1": false,
	} {
		if err := policy.Check(netip.MustParseAddr(address)); (err == nil) != allowed {
			t.Errorf("Check(%s) = %v, want allowed %t", address, err, allowed)
		}
	}
}

func TestTheLeaseIsWhereTheOperatorIs(t *testing.T) {
	tests := map[string]struct {
		arguments []string
		want      string
	}{
		"a namespace of its own comes first": {[]string{"--leader-elect-namespace=a", "--live-namespace=b"}, "a"},
		"else it is that of the live API":    {[]string{"--live-namespace=b"}, "b"},
		"outside a pod one must be named":    {[]string{"--live-bind-address=0", "--live-namespace="}, ""},
	}
	for name, tc := range tests {
		t.Run(name, func(t *testing.T) {
			o, err := parse(tc.arguments...)
			if err != nil {
				t.Fatal(err)
			}
			if namespace, err := o.leaseNamespace(); namespace != tc.want || (err == nil) != (tc.want != "") {
				t.Errorf("the Lease is in %q (%v), want %q", namespace, err, tc.want)
			}
		})
	}
}
