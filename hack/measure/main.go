// Command measure counts what says something about the form of the code, and
// prints it as a table. It is for a look before and after a change of
// structure, and works on any checkout of this repository:
//
//	go run ./hack/measure              # this checkout
//	go run ./hack/measure ../before    # another one
//	go run ./hack/measure -pairs       # and each reference against the order
//
// Production code is what is below api, client, cmd and internal, without
// generated files, tests, and packages whose name ends in "test". The columns:
//
//   - lines, code: all lines of a package's files; those that are neither blank
//     nor only comment.
//   - longest: the lines of the longest function.
//   - methods: the most methods declared on one type.
//   - references: pairs of files of one package of which the first uses a
//     package-level name, a method or a field that the second declares.
//   - against: how many of these pairs run against the layer order of the
//     package. That order is the one of its files in which the fewest pairs point
//     from a lower file to a higher one; so a package has 0 exactly if its files
//     can be read from the bottom up. Finding the best order of many files is
//     not feasible, so the count is that of a good one.
//
// Below the table: words such as "whoever" in comments of all Go code that is
// not generated, code that is repeated in production, and the lines of the
// README. A repeated run is six or more successive lines of code that stand
// elsewhere too, whatever their indentation; comments, blank lines and imports
// do not count.
package main

import (
	"context"
	"flag"
	"fmt"
	"io"
	"log"
	"os"
	"path/filepath"
	"strings"
	"text/tabwriter"
)

func main() {
	log.SetFlags(0)
	pairs := flag.Bool("pairs", false, "list each reference against the order")
	flag.Parse()
	root := "."
	if flag.NArg() > 0 {
		root = flag.Arg(0)
	}
	if err := measure(context.Background(), os.Stdout, root, *pairs); err != nil {
		log.Fatal(err)
	}
}

// measure writes the table of the checkout at root, and the references against the order if they are wanted.
func measure(ctx context.Context, w io.Writer, root string, pairs bool) error {
	files, err := load(root)
	if err != nil {
		return err
	}
	uses, err := references(ctx, root)
	if err != nil {
		return err
	}
	readme, err := os.ReadFile(filepath.Join(root, "README.md"))
	if err != nil {
		return fmt.Errorf("count the README: %w", err)
	}
	rows := packages(files, uses)
	if err := writePackages(w, rows); err != nil {
		return err
	}
	if pairs {
		writePairs(w, rows)
	}
	words, odd := commentWords(files)
	runs, lines := repeated(production(files))
	_, err = fmt.Fprintf(w, `
words of comment, all Go code          %d
  whoever, nobody, somebody, anybody,
  none of, per 10,000 words            %.1f (%d)
repeated runs of %d lines and more      %d (%d lines)
lines of README.md                     %d
`, words, 10_000*float64(odd)/float64(max(words, 1)), odd, minRun, runs, lines, strings.Count(string(readme), "\n"))
	return err
}

// row is a package in the table.
type row struct {
	name                 string
	files, lines, code   int
	longest, methods     int
	longestIn, methodsOf string
	pairs                int
	against              []string
}

// packages returns a row for each production package, and their sum.
func packages(files []file, uses map[string]graph) []row {
	total := row{name: "production"}
	var rows []row
	for _, group := range byFolder(production(files)) {
		r := count(group)
		r.pairs, r.against = uses[r.name].size(), uses[r.name].against()
		rows = append(rows, r)
		total.add(r)
	}
	return append(rows, total)
}

// count measures the files of one package.
func count(files []file) row {
	r := row{name: files[0].folder(), files: len(files)}
	methods := map[string]int{}
	for _, f := range files {
		r.lines += len(f.text)
		r.code += len(f.code)
		for _, function := range f.functions() {
			r.longer(function.name, function.lines)
			if function.receiver != "" {
				methods[function.receiver]++
			}
		}
	}
	for receiver, n := range methods {
		r.richer(receiver, n)
	}
	return r
}

func (r *row) longer(name string, lines int) {
	if lines > r.longest {
		r.longest, r.longestIn = lines, name
	}
}

// richer prefers the first of several types by name, so that the table is the same each time.
func (r *row) richer(receiver string, methods int) {
	if methods > r.methods || methods == r.methods && receiver < r.methodsOf {
		r.methods, r.methodsOf = methods, receiver
	}
}

func (r *row) add(other row) {
	r.files += other.files
	r.lines += other.lines
	r.code += other.code
	r.pairs += other.pairs
	r.against = append(r.against, other.against...)
	r.longer(other.longestIn, other.longest)
	r.richer(other.methodsOf, other.methods)
}

func writePackages(w io.Writer, rows []row) error {
	table := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	fmt.Fprintln(table, "package\tfiles\tlines\tcode\tlongest\tmethods\treferences\tagainst")
	for _, r := range rows {
		fmt.Fprintf(table, "%s\t%d\t%d\t%d\t%s\t%s\t%d\t%d\n", r.name, r.files, r.lines, r.code,
			named(r.longest, r.longestIn), named(r.methods, r.methodsOf), r.pairs, len(r.against))
	}
	return table.Flush()
}

// writePairs lists the references against the order; the last row is the sum of the others.
func writePairs(w io.Writer, rows []row) {
	fmt.Fprintln(w)
	for _, r := range rows[:len(rows)-1] {
		for _, pair := range r.against {
			fmt.Fprintf(w, "%s: %s\n", r.name, pair)
		}
	}
}

// named is a figure and the name of what has it.
func named(figure int, of string) string {
	if figure == 0 {
		return "0"
	}
	return fmt.Sprintf("%d %s", figure, of)
}
