// Package memory keeps between runs of the plugin what one of them has found out: a file for
// each cluster and user, which only its owner can read.
//
//	m := memory.OfUser("roads", 10*time.Minute)
//	if !m.Recall(config, &known) {
//		known = ask()
//		m.Remember(config, known)
//	}
//
// A file that is damaged, old, not for this cluster and user, or open to others is as good as
// none.
//
// Trade-off: a file is believed by its age only, so what is in it must not hurt if it is no
// longer true.
package memory

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"os"
	"path/filepath"
	"time"

	"k8s.io/client-go/rest"
)

// Memory is a folder of such files. The zero Memory forgets everything.
type Memory struct {
	// Folder has the files; "" for none.
	Folder string
	// MaxAge is how long they are believed.
	MaxAge time.Duration
	// Also is what files are for, beside a cluster and a user.
	Also []string
	// Now is the time; nil for that of the system.
	Now func() time.Time
}

// OfUser returns the memory of a name of the user of this process.
func OfUser(name string, maxAge time.Duration) Memory {
	cache, err := os.UserCacheDir()
	if err != nil {
		return Memory{}
	}
	return Memory{Folder: filepath.Join(cache, "connpool", name), MaxAge: maxAge}
}

// entry is the content of a file.
type entry struct {
	// At is when it was written, and For the name of the file: a file that was renamed is
	// for another user.
	At   time.Time       `json:"at"`
	For  string          `json:"for"`
	What json.RawMessage `json:"what"`
}

func (m Memory) now() time.Time {
	if m.Now == nil {
		return time.Now()
	}
	return m.Now()
}

// Recall reads what was remembered for a configuration, and reports whether there is any.
func (m Memory) Recall(config *rest.Config, what any) bool {
	path := m.path(config)
	if info, err := os.Lstat(path); err != nil || !info.Mode().IsRegular() || !isOurs(info) {
		return false
	}
	text, err := os.ReadFile(path)
	if err != nil {
		return false
	}
	var e entry
	if json.Unmarshal(text, &e) != nil || e.For != filepath.Base(path) {
		return false
	}
	age := m.now().Sub(e.At)
	return age >= 0 && age < m.MaxAge && json.Unmarshal(e.What, what) == nil
}

// Remember replaces what was remembered before. It is no failure if that does not work: the
// next run asks again.
func (m Memory) Remember(config *rest.Config, what any) {
	path := m.path(config)
	if path == "" || os.MkdirAll(m.Folder, 0o700) != nil {
		return
	}
	text, err := json.Marshal(what)
	if err != nil {
		return
	}
	text, err = json.Marshal(entry{At: m.now(), For: filepath.Base(path), What: text})
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

// Forget removes what was remembered for a configuration.
func (m Memory) Forget(config *rest.Config) { _ = os.Remove(m.path(config)) }

// forgetOld removes files that are not believed any more: each new token has a file of its
// own.
func (m Memory) forgetOld() {
	entries, err := os.ReadDir(m.Folder)
	if err != nil {
		return
	}
	for _, entry := range entries {
		if info, err := entry.Info(); err == nil && m.now().Sub(info.ModTime()) > m.MaxAge {
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
		config.CertFile, config.CertData, config.KeyFile, config.KeyData, config.AuthProvider, config.ExecProvider, m.Also,
	})
	if err != nil {
		return ""
	}
	return filepath.Join(m.Folder, hex.EncodeToString(hash.Sum(nil))+".json")
}
