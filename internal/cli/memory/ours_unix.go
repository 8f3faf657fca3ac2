//go:build !windows

package memory

import (
	"io/fs"
	"os"
	"syscall"
)

// sharedModes are those of files that others than the owner can read or write.
const sharedModes fs.FileMode = 0o077

// isOurs reports whether a file belongs to the user of this process, and to no other. Under
// sudo, the folder may be another user's.
func isOurs(info fs.FileInfo) bool {
	stat, ok := info.Sys().(*syscall.Stat_t)
	return ok && info.Mode()&sharedModes == 0 && int(stat.Uid) == os.Geteuid()
}
