package router

import (
	"encoding/json"
	"errors"
	"io"
	"net"
	"net/http"
	"time"

	"github.com/ultrafast-ci/ultrafast/steps/target"
)

// apiVersion grows when a client of an older program would misunderstand. The
// router outlives the program that started it.
const apiVersion = 1

// maxCommand bounds a command of the administrator, in bytes.
const maxCommand = 1 << 20

// ownerOnly accepts connections of the router's own user and of root.
type ownerOnly struct{ net.Listener }

func (l ownerOnly) Accept() (net.Conn, error) {
	for {
		c, err := l.Listener.Accept()
		if err != nil {
			return nil, err
		}
		if checkPeer(c) == nil {
			return c, nil
		}
		_ = c.Close() // refused; there is nobody to tell
	}
}

// command is the body of every request; a verb reads the fields it needs.
type command struct {
	Epoch    uint64           `json:"epoch,omitempty"`
	Holder   string           `json:"holder,omitempty"`
	TTL      time.Duration    `json:"ttlNanoseconds,omitempty"`
	Takeover bool             `json:"takeover,omitempty"`
	Backends []target.Backend `json:"backends,omitempty"`
	Release  string           `json:"release,omitempty"`
	Timeout  time.Duration    `json:"timeoutNanoseconds,omitempty"`
}

// answer is the body of every response.
type answer struct {
	API int `json:"api"`
	// Code names one of the exported errors; empty means success.
	Code    string          `json:"code,omitempty"`
	Message string          `json:"message,omitempty"`
	Epoch   uint64          `json:"epoch,omitempty"`
	Left    int64           `json:"left,omitempty"`
	Traffic *target.Traffic `json:"traffic,omitempty"`
}

// codes are the names of errors on the wire.
var codes = map[string]error{"taken": ErrTaken, "stale": ErrStale, "invalid": ErrInvalid}

// newAdmin returns the administrator's API. Every verb is a POST, so that none
// can be repeated by a well-meaning client library.
func newAdmin(c *control, address string, shutdown func()) http.Handler {
	mux := http.NewServeMux()
	verb := func(name string, do func(r *http.Request, cmd command) (answer, error)) {
		mux.HandleFunc("POST /v1/"+name, func(w http.ResponseWriter, r *http.Request) {
			var cmd command
			if err := json.NewDecoder(http.MaxBytesReader(w, r.Body, maxCommand)).Decode(&cmd); err != nil && !errors.Is(err, io.EOF) {
				reply(w, answer{Code: "invalid", Message: "body: " + err.Error()})
				return
			}
			a, err := do(r, cmd)
			if err != nil {
				a = answer{Code: "failed", Message: err.Error()}
				for code, known := range codes {
					if errors.Is(err, known) {
						a.Code = code
					}
				}
			}
			reply(w, a)
		})
	}
	verb("status", func(*http.Request, command) (answer, error) {
		t := c.traffic(address)
		return answer{Traffic: &t}, nil
	})
	verb("acquire", func(_ *http.Request, cmd command) (answer, error) {
		epoch, err := c.acquire(cmd.Holder, cmd.TTL, cmd.Takeover)
		return answer{Epoch: epoch}, err
	})
	verb("renew", func(_ *http.Request, cmd command) (answer, error) { return answer{}, c.renew(cmd.Epoch) })
	verb("release", func(_ *http.Request, cmd command) (answer, error) { return answer{}, c.release(cmd.Epoch) })
	verb("set", func(_ *http.Request, cmd command) (answer, error) { return answer{}, c.set(cmd.Epoch, cmd.Backends) })
	verb("commit", func(_ *http.Request, cmd command) (answer, error) { return answer{}, c.commit(cmd.Epoch) })
	verb("drain", func(r *http.Request, cmd command) (answer, error) {
		return answer{Left: c.drain(r.Context(), cmd.Release, cmd.Timeout)}, nil
	})
	verb("shutdown", func(_ *http.Request, cmd command) (answer, error) {
		c.mu.Lock()
		err := c.check(cmd.Epoch)
		c.mu.Unlock()
		if err == nil {
			shutdown()
		}
		return answer{}, err
	})
	return mux
}

func reply(w http.ResponseWriter, a answer) {
	a.API = apiVersion
	w.Header().Set("Content-Type", "application/json")
	if a.Code != "" {
		w.WriteHeader(http.StatusConflict)
	}
	_ = json.NewEncoder(w).Encode(a) // an administrator that left is not our failure
}
