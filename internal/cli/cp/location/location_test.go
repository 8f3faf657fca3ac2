package location

import "testing"

func TestLocationsAreReadAsUsersMeanThem(t *testing.T) {
	for _, c := range []struct {
		name, text string
		want       Location
	}{
		{"a pool and a path", "web:/etc/hosts", Location{Pool: "web", Path: "/etc/hosts"}},
		{"a pool, a target and a path", "web/web-1:logs", Location{Pool: "web", Target: "web-1", Path: "logs"}},
		{"no path means home", "web:", Location{Pool: "web", Path: "."}},
		{"a tilde means home", "web:~", Location{Pool: "web", Path: "."}},
		{"a path after a tilde begins at home", "web:~/a/b", Location{Pool: "web", Path: "a/b"}},
		{"a remote path may have colons", "web:a:b", Location{Pool: "web", Path: "a:b"}},
		{"a plain file is local", "file", Location{Path: "file"}},
		{"a dot makes a name with a colon local", "./a:b", Location{Path: "./a:b"}},
		{"an absolute path with a colon is local", "/a:b", Location{Path: "/a:b"}},
		{"what cannot be a pool's name is local", "Web_1:x", Location{Path: "Web_1:x"}},
		{"what cannot be a target's name is local", "web/Web_1:x", Location{Path: "web/Web_1:x"}},
		{"a hyphen is a stream", "-", Location{Path: "-"}},
	} {
		t.Run(c.name, func(t *testing.T) {
			if got := Parse(c.text).FromHome(); got != c.want {
				t.Errorf("Parse(%q) = %+v, want %+v", c.text, got, c.want)
			}
		})
	}
}
