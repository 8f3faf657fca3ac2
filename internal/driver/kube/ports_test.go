package kube

import (
	"encoding/json"
	"runtime"
	"strings"
	"testing"

	"github.com/connpool/connpool/internal/driver"
	"github.com/connpool/connpool/internal/driver/inventory"
)

func TestAPortOfAPodIsFoundByItsNumberOrName(t *testing.T) {
	conn := mustDial(t, Options{}, admin(t))
	for _, c := range []struct {
		pod, port string
		want      uint16
		reason    driver.Reason
		says      string
	}{
		{"web", "80", 80, "", ""},
		{"web", "", 0, "", ""},
		{"web", "http", 8080, "", ""},
		{"large", "http", 8080, "", ""},
		{"web", "dns", 0, driver.NotFound, "pod web in namespace default has no TCP port named dns; its ports: http"},
		{"web", "none", 0, driver.NotFound, "its ports: http"},
		{"absent", "80", 0, driver.NotFound, "there is no pod absent in namespace default"},
		{"absent", "http", 0, driver.NotFound, "there is no pod absent"},
		{"pending", "80", 0, driver.Unreachable, "it is Pending, not Running"},
	} {
		t.Run(c.pod+" "+c.port, func(t *testing.T) {
			got, err := conn.PodPort(t.Context(), driver.Place{Pod: c.pod}, c.port)
			if c.reason == "" {
				if got != c.want || err != nil {
					t.Errorf("port %d, %v", got, err)
				}
				return
			}
			if failed := wantError(t, err, c.reason, driver.StageStart); !strings.Contains(failed.Message, c.says) {
				t.Errorf("message %q", failed.Message)
			}
		})
	}
}

func TestWithoutTheRightToReadPodsOnlyNumbersAreKnown(t *testing.T) {
	conn := mustDial(t, Options{}, userWith(t, "forwarder"))
	if got, err := conn.PodPort(t.Context(), web, "80"); got != 80 || err != nil {
		t.Errorf("port %d, %v", got, err)
	}
	_, err := conn.PodPort(t.Context(), web, "http")
	if failed := wantError(t, err, driver.Forbidden, driver.StageStart); !strings.Contains(failed.Message, "give the number of the port") {
		t.Errorf("message %q", failed.Message)
	}
}

func TestAPodWithManyPortsCostsLittleToRefuse(t *testing.T) {
	var before, after runtime.MemStats
	var read podPorts
	text := `{"spec":{"containers":[{"ports":[` + strings.Repeat(`{"name":"a"},`, 20000) + `{"name":"b"}]}]},"status":{"phase":"Running"}}`
	if err := json.Unmarshal([]byte(text), &read); err != nil {
		t.Fatal(err)
	}
	runtime.ReadMemStats(&before)
	if _, err := read.find(driver.Place{Pod: "web"}, "none"); err == nil {
		t.Error("it has that port")
	}
	runtime.ReadMemStats(&after)
	if took := after.TotalAlloc - before.TotalAlloc; took > 1<<20 {
		t.Errorf("it took %d MiB", took>>20)
	}
}

func TestOfAPodThatIsLookedUpLittleIsKept(t *testing.T) {
	hostile := new(pod)
	text := `{"spec":{"containers":[` + strings.Repeat(`{"name":"a"},`, 20000) + `{"name":"b"}]}}`
	if err := json.Unmarshal([]byte(text), hostile); err != nil {
		t.Fatal(err)
	}
	if kept := hostile.known().containers; len(kept.Names()) != inventory.MaxContainers || !kept.More {
		t.Errorf("%d containers are kept, more: %t", len(kept.Names()), kept.More)
	}
}
