package atmostonce

import (
	"fmt"
	"os"
	"runtime"
)

// Resources are what a leak would use up.
type Resources struct{ Goroutines, Descriptors int }

// ResourcesNow returns what this process uses. Descriptors are counted on Linux only.
func ResourcesNow() Resources {
	return Resources{Goroutines: runtime.NumGoroutine(), Descriptors: Descriptors(os.Getpid())}
}

// Descriptors returns how many files a process has open; 0 where that cannot be
// known.
func Descriptors(pid int) int {
	files, _ := os.ReadDir(fmt.Sprintf("/proc/%d/fd", pid))
	return len(files)
}

// Beyond reports whether there is more of any resource than before.
func (r Resources) Beyond(before Resources) bool {
	return r.Goroutines > before.Goroutines || r.Descriptors > before.Descriptors
}
