package filesystem

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
)

// resolve follows the links of a path on this machine. The file itself need not
// exist, nor the one to which its link leads.
func resolve(name string) (string, error) {
	absolute, err := filepath.Abs(name)
	if err != nil {
		return "", err
	}
	for range maxLinks {
		followed, err := filepath.EvalSymlinks(absolute)
		if !errors.Is(err, fs.ErrNotExist) {
			return followed, err
		}
		target, err := os.Readlink(absolute)
		if err != nil { // it is no link: it or its directory does not exist
			return absolute, nil //nolint:nilerr // the attempt to open it says what is wrong
		}
		directory, err := filepath.EvalSymlinks(filepath.Dir(absolute))
		if err != nil {
			return "", err
		}
		if absolute = target; !filepath.IsAbs(target) {
			absolute = filepath.Join(directory, target)
		}
	}
	return "", errors.New("too many links")
}

// maxLinks is how many links in a row a system follows.
const maxLinks = 40

// OpenLocal opens the directory of a path, and returns the path with slashes.
func OpenLocal(name string) (*Local, string, error) {
	full, err := resolve(name)
	if err != nil {
		return nil, "", Explain(name, err)
	}
	root, err := os.OpenRoot(filepath.Dir(full))
	if err != nil {
		return nil, "", Explain(filepath.Dir(full), err)
	}
	base := filepath.Base(full)
	if filepath.Dir(full) == full {
		base = "."
	}
	named := filepath.ToSlash(filepath.Clean(name))
	return &Local{root: root, named: named, base: base}, named, nil
}
