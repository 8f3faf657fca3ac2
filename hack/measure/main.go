// Command measure counts what says something about the form of the code, and
// prints it as a table. It is for a look before and after a change of
// structure, and works on any checkout of this repository:
//
//	go run ./hack/measure              # this checkout
//	go run ./hack/measure ../before    # another one
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
	root := "."
	if len(os.Args) > 1 {
		root = os.Args[1]
	}
	if err := measure(context.Background(), os.Stdout, root); err != nil {
		log.Fatal(err)
	}
}

// measure writes the table of the checkout at root.
func measure(ctx context.Context, w io.Writer, root string) error {
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
	if err := writePackages(w, packages(files, uses)); err != nil {
		return err
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
	pairs, against       int
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
	r.against += other.against
	r.longer(other.longestIn, other.longest)
	r.richer(other.methodsOf, other.methods)
}

func writePackages(w io.Writer, rows []row) error {
	table := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	fmt.Fprintln(table, "package\tfiles\tlines\tcode\tlongest\tmethods\treferences\tagainst")
	for _, r := range rows {
		fmt.Fprintf(table, "%s\t%d\t%d\t%d\t%s\t%s\t%d\t%d\n", r.name, r.files, r.lines, r.code,
			named(r.longest, r.longestIn), named(r.methods, r.methodsOf), r.pairs, r.against)
	}
	return table.Flush()
}

// named is a figure and whose it is.
func named(figure int, of string) string {
	if figure == 0 {
		return "0"
	}
	return fmt.Sprintf("%d %s", figure, of)
}
