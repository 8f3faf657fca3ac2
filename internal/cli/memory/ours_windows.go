package memory

import "io/fs"

// isOurs reports whether a file belongs to the user of this process. On Windows the profile
// of a user is not open to others, and files have no such modes.
func isOurs(fs.FileInfo) bool { return true }
