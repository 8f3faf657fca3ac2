package road

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"os"
	"path/filepath"
	"time"

	"k8s.io/client-go/rest"
)

// maxAge is how long what was found is believed.
const maxAge = 10 * time.Minute

// Memory keeps what was found between runs: a file for each cluster and user, which only its
// owner can read. It holds no credentials. A file that is damaged, old, or writable by others
// is as good as none. The zero Memory forgets everything.
type Memory struct {
	// Folder has the files; "" for none.
	Folder string
	// Now is the time; nil for that of the system.
	Now func() time.Time
}

// UserMemory returns that of the user of this process.
func UserMemory() Memory {
	cache, err := os.UserCacheDir()
	if err != nil {
		return Memory{}
	}
	return Memory{Folder: filepath.Join(cache, "connpool", "roads")}
}

// found is what a run has found.
type found struct {
	// At is when.
	At time.Time `json:"at"`
	// Address of the Service, and the authority that certifies it; "" if it cannot be used.
	Address   string `json:"address,omitempty"`
	Authority []byte `json:"authority,omitempty"`
	// Why it cannot be used.
	Why string `json:"why,omitempty"`
}

func (m Memory) now() time.Time {
	if m.Now == nil {
		return time.Now()
	}
	return m.Now()
}

// recall returns what was found for a configuration, if that is not too long ago.
func (m Memory) recall(config *rest.Config) (found, bool) {
	path := m.path(config)
	if info, err := os.Lstat(path); err != nil || !info.Mode().IsRegular() || !isOurs(info) {
		return found{}, false
	}
	text, err := os.ReadFile(path)
	if err != nil {
		return found{}, false
	}
	var f found
	if json.Unmarshal(text, &f) != nil || f.Address == "" && f.Why == "" || f.Address != "" && len(f.Authority) == 0 {
		return found{}, false
	}
	age := m.now().Sub(f.At)
	return f, age >= 0 && age < maxAge
}

// remember replaces what was found before. It is no failure if that does not work: the next
// run looks again.
func (m Memory) remember(config *rest.Config, f found) {
	path := m.path(config)
	if path == "" || os.MkdirAll(m.Folder, 0o700) != nil {
		return
	}
	f.At = m.now()
	text, err := json.Marshal(f)
	if err != nil {
		return
	}
	m.forgetOld()
	file, err := os.CreateTemp(m.Folder, "new-*") // only its owner can read it
	if err != nil {
		return
	}
	_, err = file.Write(text)
	if file.Close() != nil || err != nil || os.Rename(file.Name(), path) != nil {
		_ = os.Remove(file.Name())
	}
}

// forgetOld removes files that are not believed any more: each new token has a file of its
// own.
func (m Memory) forgetOld() {
	entries, err := os.ReadDir(m.Folder)
	if err != nil {
		return
	}
	for _, entry := range entries {
		if info, err := entry.Info(); err == nil && m.now().Sub(info.ModTime()) > maxAge {
			_ = os.Remove(filepath.Join(m.Folder, entry.Name()))
		}
	}
}

// path returns the file for the cluster and the user of a configuration. Its name cannot be
// found out without the credentials, because these are part of what it is a hash of. It is ""
// if there is no such file.
func (m Memory) path(config *rest.Config) string {
	if m.Folder == "" {
		return ""
	}
	hash := sha256.New()
	token, _ := os.ReadFile(config.BearerTokenFile) // without a file it is empty
	err := json.NewEncoder(hash).Encode([]any{
		config.Host, config.APIPath, config.ServerName, config.Insecure, config.CAFile, config.CAData,
		config.BearerToken, config.BearerTokenFile, token, config.Username, config.Password, config.Impersonate,
		config.CertFile, config.CertData, config.KeyFile, config.KeyData, config.AuthProvider, config.ExecProvider,
	})
	if err != nil {
		return ""
	}
	return filepath.Join(m.Folder, hex.EncodeToString(hash.Sum(nil))+".json")
}
