package ansible

import (
	"cmp"
	"errors"
	"fmt"
	"regexp"
	"strconv"
	"strings"
	"sync"

	"github.com/connpool/connpool/internal/cli/importer/hosts"
	"github.com/connpool/connpool/internal/cli/sshhost"
)

// readINI reads the form of INI, which is Ansible's own: a line is a host with its
// variables, a group, or a variable, as its section says.
func (a *inventory) readINI(text string) error {
	in, kind, number := groupUngrouped, "", 0
	for line := range strings.Lines(text) {
		number++
		if line = withoutComment(line); line == "" {
			continue
		}
		if section, ok := strings.CutPrefix(line, "["); ok && strings.HasSuffix(section, "]") && !strings.Contains(section, " ") {
			in, kind, _ = strings.Cut(strings.TrimSuffix(section, "]"), ":")
			a.group(in)
			continue
		}
		if err := a.readLine(in, kind, line); err != nil {
			return fmt.Errorf("line %d: %w", number, err)
		}
	}
	return nil
}

func (a *inventory) readLine(in, kind, line string) error {
	switch kind {
	case "":
		return a.readHost(in, line)
	case "children":
		a.group(in).children = append(a.group(in).children, line)
		a.group(line)
		return nil
	case "vars":
		name, value, ok := strings.Cut(line, "=")
		if !ok {
			return errNoVariable
		}
		a.group(in).vars[strings.TrimSpace(name)] = unquoted(strings.TrimSpace(value))
		return nil
	}
	return fmt.Errorf("a section ends in :children or :vars, not :%s", kind)
}

// errNoVariable does not quote the word: it may be the rest of a password with a blank.
var errNoVariable = errors.New("a word is not NAME=VALUE; put quotes around a value that has blanks")

// readHost reads a host or a pattern of hosts with its variables.
func (a *inventory) readHost(in, line string) error {
	words, err := shellWords(line)
	if err != nil {
		return err
	}
	vars := map[string]string{}
	for _, word := range words[1:] {
		name, value, ok := strings.Cut(word, "=")
		if !ok {
			return errNoVariable
		}
		vars[name] = value
	}
	// HOST:PORT is an older way to write ansible_port. A range has colons, and so has IPv6.
	pattern := words[0]
	if strings.Count(rangePattern().ReplaceAllString(pattern, ""), ":") == 1 {
		at := strings.LastIndex(pattern, ":")
		if _, err := sshhost.ParsePort(pattern[at+1:]); err == nil {
			vars["ansible_port"], pattern = pattern[at+1:], pattern[:at]
		}
	}
	return a.add(in, pattern, vars)
}

// withoutComment returns a line without what follows # or ; as Ansible takes it.
func withoutComment(line string) string {
	line = strings.TrimSpace(line)
	if strings.HasPrefix(line, "#") || strings.HasPrefix(line, ";") {
		return ""
	}
	for _, mark := range []string{" #", "\t#"} {
		line, _, _ = strings.Cut(line, mark)
	}
	return strings.TrimSpace(line)
}

func unquoted(value string) string {
	if len(value) > 1 && value[0] == value[len(value)-1] && strings.ContainsRune(`"'`, rune(value[0])) {
		return value[1 : len(value)-1]
	}
	return value
}

// shellWords splits a line as a shell does. There is at least one word.
func shellWords(line string) ([]string, error) {
	var words []string
	var word strings.Builder
	inWord, quote := false, rune(0)
	for _, r := range line {
		switch {
		case quote != 0 && r == quote:
			quote = 0
		case quote != 0:
			word.WriteRune(r)
		case r == '"' || r == '\'':
			quote, inWord = r, true
		case r == ' ' || r == '\t':
			if inWord {
				words = append(words, word.String())
			}
			word.Reset()
			inWord = false
		default:
			word.WriteRune(r)
			inWord = true
		}
	}
	if quote != 0 {
		return nil, errors.New("a quote is not closed")
	}
	if inWord {
		words = append(words, word.String())
	}
	if len(words) == 0 {
		return nil, errors.New("there is no host")
	}
	return words, nil
}

// rangePattern is a range of hosts: [01:20], [1:9:2] or [a:f].
var rangePattern = sync.OnceValue(func() *regexp.Regexp {
	return regexp.MustCompile(`\[([0-9]+|[a-z]):([0-9]+|[a-z])(?::([0-9]+))?\]`)
})

// expand returns the hosts of a pattern.
func expand(pattern string) ([]string, error) {
	found := rangePattern().FindStringSubmatchIndex(pattern)
	if found == nil {
		return []string{pattern}, nil
	}
	part := func(n int) string {
		if found[2*n] < 0 {
			return ""
		}
		return pattern[found[2*n]:found[2*n+1]]
	}
	values, err := rangeOf(part(1), part(2), part(3))
	if err != nil {
		return nil, err
	}
	ends, err := expand(pattern[found[1]:])
	if err != nil {
		return nil, err
	}
	if len(values)*len(ends) > hosts.MaxHosts {
		return nil, errTooManyHosts
	}
	var names []string
	for _, value := range values {
		for _, end := range ends {
			names = append(names, pattern[:found[0]]+value+end)
		}
	}
	return names, nil
}

// rangeOf returns the values from one to another, with the leading zeros of the first.
func rangeOf(from, to, step string) ([]string, error) {
	format := func(n int) string { return fmt.Sprintf("%0*d", len(from), n) }
	first, errFirst := strconv.Atoi(from)
	last, errLast := strconv.Atoi(to)
	if errFirst != nil && errLast != nil && len(from) == 1 && len(to) == 1 {
		first, last = int(from[0]), int(to[0])
		format = func(n int) string { return string(rune(n)) }
	} else if errFirst != nil || errLast != nil {
		return nil, fmt.Errorf("%s:%s is not a range", from, to)
	}
	by, errStep := strconv.Atoi(cmp.Or(step, "1"))
	if errStep != nil || by < 1 || last < first || (last-first)/by >= hosts.MaxHosts {
		return nil, fmt.Errorf("the range %s:%s is empty or has more than %d hosts", from, to, hosts.MaxHosts)
	}
	var values []string
	for n := first; n <= last; n += by {
		values = append(values, format(n))
	}
	return values, nil
}
