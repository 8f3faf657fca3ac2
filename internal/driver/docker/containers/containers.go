// Package containers reads the list of containers that a Docker engine answers with.
//
//	found, err := containers.Read(response, &inventory.Query{Limit: 500})
package containers

import (
	"cmp"
	"io"
	"net/http"
	"strings"
	"time"

	"github.com/connpool/connpool/internal/driver"
	"github.com/connpool/connpool/internal/driver/inventory"
)

// Read reads the answer to a request for /containers/json, in the engine's order. An
// answer that is no success is a *driver.Error; others come from reading it.
func Read(response *http.Response, query *inventory.Query) (*inventory.Places, error) {
	if response.StatusCode != http.StatusOK {
		return nil, refused(response)
	}
	found := new(inventory.Places)
	err := inventory.Read(response.Body, "", func(entry *listed) bool { return found.Add(query, entry.container()) })
	return found, err
}

// listed is a container in the engine's list, as far as it is of use.
type listed struct {
	ID      string `json:"Id"`
	Names   []string
	Image   string
	State   string
	Status  string
	Created int64
}

func (l *listed) container() inventory.Container {
	container := inventory.Container{
		Name: l.ID, ID: l.ID, Image: l.Image, State: l.State, Status: l.Status, Created: time.Unix(l.Created, 0),
	}
	for _, name := range l.Names { // others, such as /web/db, are those of old links
		if name = strings.TrimPrefix(name, "/"); !strings.Contains(name, "/") {
			container.Name = name
			break
		}
	}
	return container
}

// maxWords bounds what is read of an answer that is no list.
const maxWords = 4 << 10

// refused classifies an answer that is no list.
func refused(response *http.Response) *driver.Error {
	said, _ := io.ReadAll(io.LimitReader(response.Body, maxWords))
	words := driver.Sanitize(cmp.Or(strings.TrimSpace(string(said)), response.Status))
	switch response.StatusCode {
	case http.StatusUnauthorized, http.StatusForbidden:
		return driver.Errorf(driver.Forbidden, driver.StageRun,
			"the engine forbids it to list containers (%s); allow it in its authorization plugin, or in the proxy before its socket", words)
	}
	return driver.Errorf(driver.ProtocolError, driver.StageRun, "the engine lists no containers: %s; see its log", words)
}
