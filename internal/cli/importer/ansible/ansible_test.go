package ansible

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/connpool/connpool/internal/cli/importer/hosts"
)

// summary writes a host on a line, with its groups and jump hosts.
func summary(host *hosts.Host) string {
	text := fmt.Sprintf("%s %s@%s", host.Name, host.User, host.Address)
	if len(host.Groups) > 0 {
		text += " in " + strings.Join(slices.Sorted(slices.Values(host.Groups)), ",")
	}
	if host.KeyFile != "" {
		text += " key " + host.KeyFile
	}
	if host.Password {
		text += " password"
	}
	for jump := host.Jump; jump != nil; jump = jump.Jump {
		text = fmt.Sprint(text, " via ", jump.Name)
	}
	return text
}

func TestHostsOfAnInventory(t *testing.T) {
	for name, test := range map[string]struct {
		file, text string
		hosts      []string
		notes      []string
	}{
		"hosts, groups and children": {
			"hosts", "mail\n[web]\nw1 ansible_host=10.0.0.1 ansible_port=2222 # c\n; c\n[prod:children]\nweb\n",
			[]string{"mail me@mail:22", "w1 me@10.0.0.1:2222 in prod,web"},
			nil,
		},
		"the nearest variable counts": {
			"hosts", "[web]\na\nb ansible_user=host\nc\n[p:children]\nweb\n[p:vars]\nansible_user=parent\nansible_port = 23\n[web:vars]\nansible_user=\"group\"\n[all:vars]\nansible_user=all\n",
			[]string{"a group@a:23 in p,web", "b host@b:23 in p,web", "c group@c:23 in p,web"},
			nil,
		},
		"ranges": {
			"hosts", "w[08:10]-[a:b].ex:24\n",
			[]string{"w08-a.ex me@w08-a.ex:24", "w08-b.ex me@w08-b.ex:24", "w09-a.ex me@w09-a.ex:24", "w09-b.ex me@w09-b.ex:24", "w10-a.ex me@w10-a.ex:24", "w10-b.ex me@w10-b.ex:24"},
			nil,
		},
		"IPv6 and a port behind a name": {
			"hosts", "2001:db8::1\nx:2200\n", []string{"2001:db8::1 me@[2001:db8::1]:22", "x me@x:2200"}, nil,
		},
		"jump hosts in options of ssh": {
			"hosts", "b\na ansible_ssh_common_args='-o ProxyJump=b'\nc ansible_ssh_common_args=\"-J ops@x:2222 -C\"\n" +
				"d ansible_ssh_common_args='-o ProxyCommand=\"ssh -W %h:%p -q b\"'\n",
			[]string{"b me@b:22", "a me@a:22 via b", "c me@c:22 via x", "d me@d:22 via b", "x ops@x:2222"},
			[]string{"ansible_ssh_common_args -C is not carried over (c)"},
		},
		"what cannot be carried over": {
			"hosts", "a ansible_connection=local\nb ansible_host={{x}}\nc ansible_ssh_common_args='-o ProxyCommand=nc'\n" +
				"d ansible_password=CANARY\ne ansible_become=yes port=1\nf ansible_ssh_pass=CANARY ansible_ssh_private_key_file=/k\n",
			[]string{"d me@d:22 password", "e me@e:22", "f me@f:22 key /k password"},
			[]string{
				"a is left out: its ansible_connection is local", `b is left out: "{{x}}" is a template`, "c is left out: a ProxyCommand",
				"ansible_become is not carried over (e)", "variable port is not carried over (e)", "a password beside a private key is not carried over (f)",
			},
		},
		"YAML": {
			"inventory.yml", "all:\n  vars: {ansible_port: 2222}\n  hosts: {mail: }\n  children:\n    web:\n      vars: {ansible_user: w}\n" +
				"      hosts:\n        w[1:2]: {ansible_host: 10.0.0.1}\n      children: {sub: {hosts: {s: }}}\n",
			[]string{"mail me@mail:2222", "s w@s:2222 in sub,web", "w1 w@10.0.0.1:2222 in web", "w2 w@10.0.0.1:2222 in web"},
			nil,
		},
		"groups in a circle": {"hosts", "[a]\nx\n[a:children]\nb\n[b:children]\na\n", []string{"x me@x:22 in a,b"}, nil},
	} {
		t.Run(name, func(t *testing.T) {
			got, err := Read([]byte(test.text), test.file, hosts.Defaults{User: "me"})
			if err != nil {
				t.Fatal(err)
			}
			var found []string
			for _, host := range got.Hosts {
				found = append(found, summary(host))
			}
			slices.Sort(found)
			slices.Sort(test.hosts)
			if diff := cmp.Diff(test.hosts, found); diff != "" {
				t.Errorf("hosts (-want +got):\n%s", diff)
			}
			notes := strings.Join(got.Notes, "\n")
			for _, note := range test.notes {
				if !strings.Contains(notes, note) {
					t.Errorf("the notes lack %q:\n%s", note, notes)
				}
			}
			if len(test.notes) == 0 && notes != "" || strings.Contains(notes, "CANARY") {
				t.Errorf("notes: %s", notes)
			}
		})
	}
}

func TestInventoriesThatCannotBeReadSayWhere(t *testing.T) {
	for text, says := range map[string]string{
		"a b":                         "line 1: a word is not NAME=VALUE",
		"\n[web:x]\na":                "line 3: a section ends in :children or :vars, not :x",
		"a x='":                       "line 1: a quote is not closed",
		"[w:vars]\nx":                 "line 2: a word is not NAME=VALUE",
		"w[1:999999999]":              "has more than 10000 hosts",
		"w[1:9999]x[1:9999]":          "it has more than 10000 hosts",
		"w[9:1]":                      "is empty",
		"w[a:1]":                      "is not a range",
		"w[1:9:0]":                    "is empty",
		"w[1:9:99999999999999999999]": "is empty",
	} {
		if _, err := Read([]byte(text), "hosts", hosts.Defaults{}); err == nil || !strings.Contains(err.Error(), says) {
			t.Errorf("%q: %v, want %q", text, err, says)
		}
	}
	if _, err := Read([]byte("a ansible_password=one two"), "hosts", hosts.Defaults{}); err == nil || strings.Contains(err.Error(), "two") {
		t.Errorf("a password with a blank: %v, want an error without a part of it", err)
	}
	if _, err := Read([]byte("- a"), "x.yaml", hosts.Defaults{}); err == nil || !strings.Contains(err.Error(), "not a YAML inventory") {
		t.Errorf("a list: %v", err)
	}
}

func FuzzInventory(f *testing.F) {
	f.Add("hosts", "[web]\nw[1:3]:22 ansible_user='x' # c\n[p:children]\nweb\n[p:vars]\na=b\n")
	f.Add("x.yml", "all: {hosts: {a: {ansible_ssh_common_args: '-J b,a'}}, children: {b: {hosts: {c: }}}}")
	f.Fuzz(func(t *testing.T, path, text string) {
		inventory, err := Read([]byte(text), path, hosts.Defaults{User: "me"})
		if err != nil {
			return
		}
		for _, host := range inventory.Hosts {
			if host.Host == "" || host.Port < 1 || host.Port > 65535 {
				t.Errorf("a host without an address: %+v", host)
			}
		}
	})
}
