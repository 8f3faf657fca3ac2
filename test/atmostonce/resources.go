package atmostonce

import (
	"fmt"
	"os"
	"runtime"
)

// Resources are what a leak would eat.
type Resources struct{ Goroutines, Descriptors int }

// ResourcesNow are those of this process. Descriptors are counted on Linux only.
func ResourcesNow() Resources {
	return Resources{Goroutines: runtime.NumGoroutine(), Descriptors: Descriptors(os.Getpid())}
}

// Descriptors counts the open files of a process; 0 where that cannot be known.
func Descriptors(pid int) int {
	files, _ := os.ReadDir(fmt.Sprintf("/proc/%d/fd", pid))
	return len(files)
}

// Beyond reports that there is more of something than there was before.
func (r Resources) Beyond(before Resources) bool {
	return r.Goroutines > before.Goroutines || r.Descriptors > before.Descriptors
}
