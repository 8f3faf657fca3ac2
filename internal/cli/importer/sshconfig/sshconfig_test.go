package sshconfig

import (
	"errors"
	"fmt"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/connpool/connpool/internal/cli/importer/hosts"
)

// files are what a file may include, by path.
type files map[string]string

func (f files) readers() Readers {
	return Readers{
		Glob: func(pattern string) ([]string, error) {
			if _, ok := f[pattern]; ok {
				return []string{pattern}, nil
			}
			return nil, nil
		},
		Read: func(path string) ([]byte, error) {
			if text, ok := f[path]; ok {
				return []byte(text), nil
			}
			return nil, errors.New("there is no such file")
		},
	}
}

// summary writes a host on a line, with its jump hosts.
func summary(host *hosts.Host) string {
	text := fmt.Sprintf("%s %s@%s", host.Name, host.User, host.Address)
	if host.KeyFile != "" {
		text += " key " + host.KeyFile
	}
	for jump := host.Jump; jump != nil; jump = jump.Jump {
		text = fmt.Sprint(text, " via ", jump.Name)
	}
	if host.JumpOnly {
		text += " (jump host only)"
	}
	return text
}

func TestHostsOfAnSSHConfig(t *testing.T) {
	for name, test := range map[string]struct {
		config string
		hosts  []string
		notes  []string
	}{
		"settings of patterns count, and patterns are no hosts": {
			"Host web-1\n HostName 10.0.0.1\n Port=2222\nHost web-*\n User deploy\n IdentityFile /k\nHost *\n User other\n",
			[]string{"web-1 deploy@10.0.0.1:2222 key /k"},
			nil,
		},
		"the first value counts, and keywords have any case": {
			"host a\n user one\nHOST a\n USER two\n", []string{"a one@a:22"}, nil,
		},
		"a negated pattern keeps settings away": {
			"Host a b\nHost * !b\n User x\n", []string{"a x@a:22", "b me@b:22"}, nil,
		},
		"quotes, tokens and comments": {
			"# c\nHost \"a\" # c\n HostName \"%h.example.com\"\n IdentityFile \"/k/%r-%h\"\n",
			[]string{"a me@a.example.com:22 key /k/me-a.example.com"},
			nil,
		},
		"a jump host that is a host": {
			"Host b\n User ops\nHost w\n ProxyJump b\n", []string{"b ops@b:22", "w me@w:22 via b"}, nil,
		},
		"a jump host with another user is another target": {
			"Host b\nHost w\n ProxyJump ops@b:2222\n", []string{"b me@b:22", "w me@w:22 via b", "b ops@b:2222 (jump host only)"}, nil,
		},
		"a chain of jump hosts that only patterns are about": {
			"Host *.ex\n User ops\nHost w v\n ProxyJump a.ex,b.ex\n",
			[]string{"w me@w:22 via b.ex via a.ex", "v me@v:22 via b.ex via a.ex", "a.ex ops@a.ex:22 (jump host only)", "b.ex ops@b.ex:22 via a.ex (jump host only)"},
			nil,
		},
		"a ProxyCommand that is a jump": {
			"Host b\nHost w\n ProxyCommand ssh -q -W %h:%p b\n", []string{"b me@b:22", "w me@w:22 via b"}, nil,
		},
		"another ProxyCommand": {
			"Host w\n ProxyCommand nc %h %p\n", nil, []string{"w is left out: a ProxyCommand cannot be carried over"},
		},
		"no jump host after all": {
			"Host w\n ProxyJump none\nHost *\n ProxyJump b\n", []string{"w me@w:22"}, nil,
		},
		"a cycle": {
			"Host a\n ProxyJump b\nHost b\n ProxyJump a\n", nil, []string{"a is left out: it has more than 3 jump hosts, or they form a cycle", "b is left out"},
		},
		"two names of one host": {
			"Host a b\n HostName 10.0.0.1\n", []string{"a me@10.0.0.1:22"}, []string{"b is the same host as a"},
		},
		"Match of what is known before": {
			"Host a\nMatch originalhost a\n User x\nMatch all\n Port 23\n", []string{"a x@a:23"}, nil,
		},
		"Match of what is not": {
			"Host a\nMatch exec \"rm -rf /\"\n User evil\n Include secret\nHost c\n User c\n",
			[]string{"a me@a:22", "c c@c:22"},
			[]string{`Match exec "rm -rf /" cannot be carried over`},
		},
		"an included file, and what follows it": {
			"Host a\n Include inc\n User x\n", []string{"a x@a:22", "i i@i:22"}, nil,
		},
		"files that are not there or include themselves": {
			"Include nothing loop\nHost a\n",
			[]string{"a me@a:22"},
			[]string{"Include /etc/nothing: there is no such file", "Include /etc/loop: there is no such file, or it is nested too deeply"},
		},
		"what has no place in a target": {
			"Host a b\n ForwardAgent yes\n IdentityAgent /x\n CertificateFile /c\n StrictHostKeyChecking no\n IdentityFile /1\n IdentityFile /2\n",
			[]string{"a me@a:22 key /1", "b me@b:22 key /1"},
			[]string{
				"ForwardAgent is not carried over (a, b)", "IdentityAgent is not carried over", "CertificateFile /c of a: add it to the Secret",
				"StrictHostKeyChecking no is not carried over", "of the keys of a only the first is used",
			},
		},
		"a bad port": {"Host a\n Port 70000\n", nil, []string{"a is left out: \"70000\" is not a valid port"}},
	} {
		t.Run(name, func(t *testing.T) {
			included := files{"/etc/inc": "Host i\n User i\n", "/etc/loop": "Include loop\n"}
			got, err := Read([]byte(test.config), "/etc/config", included.readers(), hosts.Defaults{User: "me"})
			if err != nil {
				t.Fatal(err)
			}
			var found []string
			for _, host := range got.Hosts {
				found = append(found, summary(host))
			}
			if diff := cmp.Diff(test.hosts, found); diff != "" {
				t.Errorf("hosts (-want +got):\n%s", diff)
			}
			notes := strings.Join(got.Notes, "\n")
			for _, note := range test.notes {
				if !strings.Contains(notes, note) {
					t.Errorf("the notes lack %q:\n%s", note, notes)
				}
			}
			if len(test.notes) == 0 && notes != "" {
				t.Errorf("notes: %s", notes)
			}
		})
	}
}

func FuzzSSHConfig(f *testing.F) {
	f.Add("Host a b*\n HostName %h\n ProxyJump x@y:1,a\nMatch all\nInclude c\n")
	f.Add("Match exec x\nHost !a \"b c\"\nProxyCommand ssh -W %h:%p a")
	f.Fuzz(func(t *testing.T, text string) {
		inventory, err := Read([]byte(text), "/etc/config", files{"/etc/c": text}.readers(), hosts.Defaults{User: "me"})
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
