package cleanroom

import (
	"bytes"
	"cmp"
	"encoding/json"
	"io"
	"net/url"
	"slices"
	"strings"
	"sync"
)

const (
	// leastSecret is the length below which a secret is not looked for, in bytes: to hide
	// it would hide half of what a test prints, and it is none.
	leastSecret = 4
	// hidden stands for a secret.
	hidden = "***"
)

// secretsOf returns the passwords among variables that tests get: what prints them,
// as a test's log does that shows its environment, must not keep them.
func secretsOf(env []string) [][]byte {
	var secrets [][]byte
	for _, v := range env {
		name, value, _ := strings.Cut(v, "=")
		if !strings.HasSuffix(name, "PASSWORD") || len(value) < leastSecret {
			continue
		}
		inJSON, err := json.Marshal(value) // as the events of the go command have it
		if err == nil {
			secrets = append(secrets, inJSON[1:len(inJSON)-1])
		}
		_, inURL, _ := strings.Cut(url.UserPassword("", value).String(), ":")
		secrets = append(secrets, []byte(value), []byte(inURL), []byte(url.QueryEscape(value)))
	}
	slices.SortFunc(secrets, func(a, b []byte) int { return cmp.Or(len(b)-len(a), bytes.Compare(a, b)) })
	return slices.CompactFunc(secrets, bytes.Equal)
}

// redactor writes what it is given with every secret hidden, wherever writes cut it.
type redactor struct {
	to      io.Writer
	secrets [][]byte // the longest first

	mu   sync.Mutex
	held []byte // it may be the beginning of a secret
}

func (r *redactor) Write(p []byte) (int, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	text := append(r.held, p...)
	for _, s := range r.secrets {
		text = bytes.ReplaceAll(text, s, []byte(hidden))
	}
	from := len(text)
	for _, s := range r.secrets {
		for n := min(len(s)-1, len(text)); n > len(text)-from; n-- {
			if bytes.HasSuffix(text, s[:n]) {
				from = len(text) - n
			}
		}
	}
	r.held = bytes.Clone(text[from:])
	_, err := r.to.Write(text[:from])
	return len(p), err
}

// flush writes what turned out to be no secret.
func (r *redactor) flush() error {
	r.mu.Lock()
	defer r.mu.Unlock()
	_, err := r.to.Write(r.held)
	r.held = nil
	return err
}
