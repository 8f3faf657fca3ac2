package inventory

import (
	"errors"
	"fmt"
	"io"
	"runtime"
	"runtime/metrics"
	"strconv"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

type entry struct{ Name string }

func read(from io.Reader, key string) (names []string, err error) {
	err = Read(from, key, func(e *entry) bool {
		names = append(names, e.Name)
		return e.Name != "last"
	})
	return names, err
}

func TestAListIsReadEntryByEntry(t *testing.T) {
	for name, test := range map[string]struct {
		text, key string
		want      []string
		bad       bool
	}{
		"a list":                          {`[{"Name":"a"},{"Name":"b","More":[{}]}]`, "", []string{"a", "b"}, false},
		"an empty list":                   {`[]`, "", nil, false},
		"a member of an object":           {`{"kind":"List","metadata":{"items":[1]},"items":[{"Name":"a"}],"x":1}`, "items", []string{"a"}, false},
		"no more than is wanted":          {`[{"Name":"last"},`, "", []string{"last"}, false},
		"a list that breaks off":          {`[{"Name":"a"},{"Na`, "", []string{"a"}, true},
		"a list without its end":          {`[{"Name":"a"}`, "", []string{"a"}, true},
		"an object in place of a list":    {`{"Name":"a"}`, "", nil, true},
		"an object without the member":    {`{"kind":"Status"}`, "items", nil, true},
		"a member that is no list":        {`{"items":{}}`, "items", nil, true},
		"nothing":                         {``, "", nil, true},
		"an entry of another type":        {`["a"]`, "", nil, true},
		"an entry whose name is a number": {`[{"Name":7}]`, "", nil, true},
	} {
		t.Run(name, func(t *testing.T) {
			got, err := read(strings.NewReader(test.text), test.key)
			if diff := cmp.Diff(test.want, got); diff != "" || (err != nil) != test.bad {
				t.Errorf("error %v, %s", err, diff)
			}
		})
	}
}

// endless repeats a text after a beginning.
type endless struct{ first, again string }

func (e *endless) Read(p []byte) (int, error) {
	for n := 0; ; {
		if e.first == "" {
			e.first = strings.Repeat(e.again, 1+4096/len(e.again))
		}
		moved := copy(p[n:], e.first)
		e.first, n = e.first[moved:], n+moved
		if n == len(p) {
			return n, nil
		}
	}
}

func TestAListWithoutAnEndCostsLittleMemory(t *testing.T) {
	for name, test := range map[string]struct{ first, again, key string }{
		"one entry":       {`[{"Name":"`, "x", ""},
		"unknown members": {`{`, `"a":{"b":"c"},`, "items"},
		"one member":      {`{"a":"`, "x", "items"},
		"a member's name": {`{"`, "x", "items"},
		"spaces":          {"", "        ", ""},
		"nested lists":    {`[`, "[", ""},
		"entries":         {`[{}`, `,{"Name":"x"}`, ""},
	} {
		t.Run(name, func(t *testing.T) {
			runtime.GC()
			before, most := heap(), uint64(0)
			err := Read(&endless{test.first, test.again}, test.key, func(*entry) bool {
				return true
			})
			most = max(most, heap())
			if err == nil {
				t.Error("it has an end")
			}
			if grown := int64(most) - int64(before); grown > 40<<20 { // garbage included
				t.Errorf("it took %d MiB", grown>>20)
			}
		})
	}
	_, err := read(&endless{`[{"Name":"`, "x"}, "")
	if !errors.Is(err, ErrTooLong) {
		t.Errorf("error %v, want %v", err, ErrTooLong)
	}
}

func heap() uint64 {
	sample := []metrics.Sample{{Name: "/memory/classes/heap/objects:bytes"}}
	metrics.Read(sample)
	return sample[0].Value.Uint64()
}

func TestPlacesStayWithinTheBoundsOfTheirQuery(t *testing.T) {
	fill := func(query Query) *Places {
		found := new(Places)
		for i := range 5 {
			if !found.Add(&query, Container{Name: strconv.Itoa(i), ID: strings.Repeat("x", 99)}) {
				break
			}
		}
		return found
	}
	for name, test := range map[string]struct {
		query Query
		names int
	}{
		"no bounds":    {Query{}, 5},
		"a limit":      {Query{Limit: 3}, 3},
		"a high limit": {Query{Limit: 5}, 5},
		"bytes":        {Query{MaxBytes: 250}, 2},
	} {
		t.Run(name, func(t *testing.T) {
			if got := fill(test.query); len(got.Names()) != test.names || got.More != (test.names < 5) {
				t.Errorf("got %v, more: %t", got.Names(), got.More)
			}
		})
	}
}

func TestWordsOfServersAreMadeSafe(t *testing.T) {
	found, query := new(Places), new(Query)
	found.Add(query, Container{Name: "a\x1b[31m", Image: strings.Repeat("x", 1000)})
	found.Add(query, Container{Name: "\x00"})
	found.AddPod(query, Pod{Name: "p\n", Containers: append([]string{"c\r"}, make([]string, 99)...)})
	if got := found.Names(); !cmp.Equal(got, []string{"a[31m", "p"}) {
		t.Errorf("names %q", got)
	}
	if len(found.Containers[0].Image) > 256 || len(found.Pods[0].Containers) != MaxContainers || found.Pods[0].Containers[0] != "c" {
		t.Errorf("got %+v", found)
	}
}

func TestAMessageOffersSomeNames(t *testing.T) {
	many := func(n int) (names []string) {
		for i := range n {
			names = append(names, fmt.Sprintf("n%02d", i))
		}
		return names
	}
	for name, test := range map[string]struct {
		names []string
		asked string
		more  bool
		want  string
	}{
		"all of a few":                 {[]string{"db", "web"}, "", false, "db, web"},
		"eight of many":                {many(20), "", false, "n00, n01, n02, n03, n04, n05, n06, n07, +12 more"},
		"eight of an unknown number":   {many(20), "", true, "n00, n01, n02, n03, n04, n05, n06, n07, +12 or more"},
		"those that begin alike first": {[]string{"api-1", "db-1", "web-1", "web-2"}, "web", false, "web-1, web-2, api-1, db-1"},
	} {
		t.Run(name, func(t *testing.T) {
			if got := offer(test.names, test.asked, test.more); got != test.want {
				t.Errorf("got %q, want %q", got, test.want)
			}
		})
	}
}
