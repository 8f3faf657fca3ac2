package tour

import (
	"regexp"
	"slices"
	"strings"
	"testing"
)

// masks replace what differs from run to run. They apply in this order.
var masks = []struct {
	what *regexp.Regexp
	as   string
}{
	{regexp.MustCompile(`SSH-2\.0-[^)\n]*`), "SSH-VERSION"},
	{regexp.MustCompile(`sshd of this machine|an embedded SSH server`), "SSH-SERVER"},
	{regexp.MustCompile(`SHA256:[A-Za-z0-9+/]{43}`), "FINGERPRINT"},
	{regexp.MustCompile(`\d{4}-\d\d-\d\d[T ]\d\d:\d\d:\d\d[0-9.Z]*( \+0000 UTC)?`), "TIME"},
	{regexp.MustCompile(`[A-Z][a-z]{2} [A-Z][a-z]{2} +\d+ \d\d:\d\d:\d\d UTC \d{4}`), "TIME"},
	{regexp.MustCompile(`\b\d\d:\d\d:\d\d\b`), "TIME"},
	{regexp.MustCompile(`[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}`), "UUID"},
	{regexp.MustCompile(`-[0-9a-f]{10}\b`), "-ID"},
	{regexp.MustCompile(`\bci-[a-z0-9]{5}\b`), "ci-NAME"},
	{regexp.MustCompile(`"(wait|duration|durationMicroseconds|bytesIn|bytesOut)":[0-9.e-]+`), `"$1":N`},
	{regexp.MustCompile(`(?:\d+(?:\.\d+)?(?:ns|µs|ms|s|m|h|d))+\b`), "DURATION"},
	{regexp.MustCompile(`up \d+ [a-z]+(, \d+ [a-z]+)*`), "UPTIME"},
	{regexp.MustCompile(`process \d+`), "process N"},
	{regexp.MustCompile(`^ *\d+( root +ps)$`), "N$1"},
	{regexp.MustCompile(`(connpool_(?:dials|uses)_total\{[^}]*\}) \d+`), "$1 N"},
	{regexp.MustCompile(`[ \t]+`), " "},
}

// volatile are columns whose cells differ from run to run.
var volatile = []string{"USES", "AGE", "OLDEST", "LAST-USED", "LAST USED", "EXPIRES", "COMMANDS", "TIME", "IDLE", "RTT"}

var header = regexp.MustCompile(`^ *[A-Z][A-Z-]+( [A-Z]+)?(  +[A-Z][A-Z-]*( [A-Z]+)?){2,}$`)

// plain returns lines as they are compared.
func plain(lines []string) []string {
	result := withoutCells(lines)
	for i, line := range result {
		for _, mask := range masks {
			line = mask.what.ReplaceAllString(line, mask.as)
		}
		result[i] = strings.TrimSpace(line)
	}
	sortTargets(result)
	return result
}

var ofTarget = regexp.MustCompile(`^[a-z0-9/-]+ \| `)

// sortTargets orders the lines of several targets, which come as they come.
func sortTargets(lines []string) {
	for i := 0; i < len(lines); i++ {
		end := i
		for end < len(lines) && ofTarget.MatchString(lines[end]) {
			end++
		}
		slices.Sort(lines[i:end])
		i = max(i, end-1)
	}
}

// withoutCells empties the volatile columns of tables.
func withoutCells(lines []string) []string {
	result := slices.Clone(lines)
	var columns [][2]int
	for i, line := range result {
		switch {
		case header.MatchString(line):
			columns = columnsOf(line)
		case strings.TrimSpace(line) == "":
			columns = nil
		default:
			result[i] = blank(line, columns)
		}
	}
	return result
}

var title = regexp.MustCompile(`[A-Z][A-Z-]*( [A-Z]+)?`)

// columnsOf returns where the volatile columns of a table begin and end.
func columnsOf(line string) (columns [][2]int) {
	all := title.FindAllStringIndex(line, -1)
	for i, at := range all {
		end := 1 << 20
		if i+1 < len(all) {
			end = all[i+1][0]
		}
		if slices.Contains(volatile, line[at[0]:at[1]]) {
			columns = append(columns, [2]int{at[0], end})
		}
	}
	return columns
}

func blank(line string, columns [][2]int) string {
	runes := []rune(line)
	for _, column := range columns {
		for i := column[0]; i < min(column[1], len(runes)); i++ {
			runes[i] = ' '
		}
	}
	return string(runes)
}

const anything = "..."

// matches reports whether lines are what is wanted, where "..." stands for any lines.
func matches(want, got []string) bool { return matchesPlain(plain(want), plain(got)) }

func matchesPlain(want, got []string) bool {
	if len(want) == 0 {
		return len(got) == 0
	}
	if want[0] == anything {
		return slices.ContainsFunc(suffixes(got), func(rest []string) bool { return matchesPlain(want[1:], rest) })
	}
	return len(got) > 0 && want[0] == got[0] && matchesPlain(want[1:], got[1:])
}

func suffixes(lines []string) (all [][]string) {
	for i := range len(lines) + 1 {
		all = append(all, lines[i:])
	}
	return all
}

func TestMatches(t *testing.T) {
	tests := map[string]struct {
		want, got string
		matches   bool
	}{
		"the same":                  {"a\nb", "a\nb", true},
		"another line":              {"a\nb", "a\nc", false},
		"one line more":             {"a", "a\nb", false},
		"one line less":             {"a\nb", "a", false},
		"any lines":                 {"a\n...\nd", "a\nb\nc\nd", true},
		"any lines, and then none":  {"a\n...", "a", true},
		"any lines, and another":    {"a\n...\nd", "a\nb", false},
		"times":                     {"after 12.1s, up 4 hours, 42 minutes", "after 3m4s, up 1 week, 2 days", true},
		"a number is compared":      {"exit 3", "exit 4", false},
		"a fingerprint":             {"SHA256:" + strings.Repeat("a", 43), "SHA256:" + strings.Repeat("b", 43), true},
		"a cell that differs":       {"NAME   USES   READY\nweb    3      True", "NAME   USES   READY\nweb    12     True", true},
		"a cell that must not":      {"NAME   USES   READY\nweb    3      True", "NAME   USES   READY\nweb    3      False", false},
		"an empty cell":             {"NAME   AGE    READY\nweb           True", "NAME   AGE    READY\nweb    1s     True", true},
		"columns of another width":  {"NAME   AGE   READY\nweb    1s    True", "NAME       AGE     READY\nweb        1s      True", true},
		"after a table":             {"NAME   USES   A\nx      1      b\n\n1      3", "NAME   USES   A\nx      2      b\n\n1      4", false},
		"the number of a process":   {"    1 root     sleep\n    8 root     ps", "    1 root     sleep\n   14 root     ps", true},
		"targets in another order":  {"web-1 | a\nweb-2 | b\nc", "web-2 | b\nweb-1 | a\nc", true},
		"the identity of a session": {"ci-4x9m6", "ci-abcde", true},
	}
	for name, tc := range tests {
		t.Run(name, func(t *testing.T) {
			if got := matches(strings.Split(tc.want, "\n"), strings.Split(tc.got, "\n")); got != tc.matches {
				t.Errorf("%v, want %v", got, tc.matches)
			}
		})
	}
}
