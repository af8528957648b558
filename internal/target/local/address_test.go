package local

import (
	"testing"

	"github.com/ultrafast-ci/ultrafast/steps/fault"
	"github.com/ultrafast-ci/ultrafast/steps/state"
	"github.com/ultrafast-ci/ultrafast/steps/target"
)

// TestServiceListensOnItsAddressOnly: neither the image nor the service can say
// another host or port, by which users would get past the router.
func TestServiceListensOnItsAddressOnly(t *testing.T) {
	t.Parallel()
	env := environment(state.ImageConfig{Env: []string{"LISTEN=0.0.0.0", "PORT=80"}}, prepared{
		Release: target.Release{Service: target.Service{Env: map[string]string{"LISTEN": "::"}}}, Address: "127.0.0.1:20001",
	})
	if env["LISTEN"] != "127.0.0.1" || env["PORT"] != "20001" {
		t.Errorf("%q", env)
	}
}

func TestBadListenIsUsage(t *testing.T) {
	t.Parallel()
	for address, ok := range map[string]bool{
		"127.0.0.1:0": true, ":8080": true, "[::1]:65535": true, "localhost:80": true,
		"127.0.0.1:65536": false, "127.0.0.1": false, "": false, "127.0.0.1:-1": false, "127.0.0.1:http": false, "::1:80": false,
	} {
		_, err := New(Options{Dir: t.TempDir(), Listen: address})
		if ok && err != nil || !ok && (fault.KindOf(err) != fault.Usage || fault.HintOf(err) == "") {
			t.Errorf("%q: %v", address, err)
		}
	}
}
