package engine

import (
	"context"
	"encoding/json"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync/atomic"
	"testing"
)

// TestRemove has an engine refuse a removal: what passes is waited for, what does not is
// told at once, and a wait has an end.
func TestRemove(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		says    string
		code    int
		refuses int32 // times; -1 is always
		want    string
		tries   int32 // at the last one whoever asked gives up
	}{
		"nothing":        {"", http.StatusNoContent, 0, "", 1},
		"gone":           {"No such container: x", http.StatusNotFound, -1, "", 1},
		"mount of shm":   {"unlinkat /run/x/userdata/shm: device or resource busy", http.StatusInternalServerError, 3, "", 4},
		"root is busy":   {`container x: driver "overlay2" failed to remove root filesystem: unlinkat /d/merged: device or resource busy`, http.StatusInternalServerError, 2, "", 3},
		"ending":         {"cannot remove container x as it could not be stopped: container state improper", http.StatusInternalServerError, 1, "", 2},
		"somebody else":  {"removal of container x is already in progress", http.StatusConflict, 2, "", 3},
		"no exit event":  {"could not kill: tried to kill container, but did not receive an exit event", http.StatusInternalServerError, 1, "", 2},
		"for good":       {"permission denied", http.StatusInternalServerError, -1, "permission denied", 1},
		"busy for ever":  {"device or resource busy", http.StatusInternalServerError, -1, "device or resource busy", 3},
		"volume is used": {"volume is in use", http.StatusConflict, -1, "volume is in use", 1},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			var tries atomic.Int32
			var ctx context.Context
			var giveUp context.CancelFunc
			server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				if r.Method != http.MethodDelete {
					return // the negotiation
				}
				n := tries.Add(1)
				if c.refuses < 0 || n <= c.refuses {
					w.Header().Set("Content-Type", "application/json")
					w.WriteHeader(c.code)
					_ = json.NewEncoder(w).Encode(map[string]string{"message": c.says})
				}
				if name == "busy for ever" && n == c.tries {
					defer giveUp()
				}
			}))
			defer server.Close()
			e, err := Open("tcp://"+strings.TrimPrefix(server.URL, "http://"), "1.41")
			if err != nil {
				t.Fatal(err)
			}
			defer e.Close()
			for what, remove := range map[string]func(context.Context, string) error{"container": e.RemoveContainer, "volume": e.RemoveVolume} {
				tries.Store(0)
				ctx, giveUp = context.WithCancel(t.Context())
				err := remove(ctx, "x")
				giveUp()
				switch {
				case c.want == "" && err != nil:
					t.Errorf("%s: %v", what, err)
				case c.want != "" && (err == nil || !strings.Contains(err.Error(), c.want) || !strings.HasPrefix(err.Error(), "remove "+what+" x: ")):
					t.Errorf("%s: %v, want %q", what, err, c.want)
				}
				if n := tries.Load(); n != c.tries {
					t.Errorf("%s: %d tries, want %d", what, n, c.tries)
				}
			}
		})
	}
}
