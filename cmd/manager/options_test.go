package main

import (
	"flag"
	"io"
	"net/netip"
	"strings"
	"testing"
)

func parse(arguments ...string) (options, error) {
	flags := flag.NewFlagSet("manager", flag.ContinueOnError)
	flags.SetOutput(io.Discard)
	var o options
	o.register(flags)
	if err := flags.Parse(arguments); err != nil {
		return o, err
	}
	return o, o.validate(flags.Args())
}

func TestBadFlagsAreRefusedWithTheNextStep(t *testing.T) {
	tests := map[string]struct {
		arguments []string
		says      string
	}{
		"an argument that is no flag":        {[]string{"start"}, `"start"`},
		"an address without a prefix length": {[]string{"--allow-cidrs=127.0.0.1"}, "127.0.0.1/32"},
		"something that is no CIDR":          {[]string{"--allow-cidrs=localhost"}, "127.0.0.0/8"},
		"an empty replica name":              {[]string{"--replica-name="}, "--replica-name"},
		"a negative drain timeout":           {[]string{"--drain-timeout=-1s"}, "--drain-timeout"},
		"no requests to clusters":            {[]string{"--kubernetes-qps=0"}, "--kubernetes-qps"},
		"an unknown flag":                    {[]string{"--allow-cidr=::1/128"}, "allow-cidr"},
	}
	for name, tc := range tests {
		t.Run(name, func(t *testing.T) {
			if _, err := parse(tc.arguments...); err == nil || !strings.Contains(err.Error(), tc.says) {
				t.Errorf("%v: error %v, want it to contain %s", tc.arguments, err, tc.says)
			}
		})
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
