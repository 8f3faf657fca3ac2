package containers

import "testing"

func TestAContainerWithoutAPlainNameHasItsID(t *testing.T) {
	for name, test := range map[string]struct {
		names []string
		want  string
	}{
		"a name":              {[]string{"/web"}, "web"},
		"a link to it, first": {[]string{"/web/db", "/db"}, "db"},
		"no name":             {nil, "abc"},
		"a path":              {[]string{"/../x"}, "abc"},
	} {
		t.Run(name, func(t *testing.T) {
			entry := listed{ID: "abc", Names: test.names}
			if got := entry.container().Name; got != test.want {
				t.Errorf("it is called %q, want %q", got, test.want)
			}
		})
	}
}
