package store

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"strings"

	"github.com/ultrafast-ci/ultrafast/steps/fault"
	"github.com/ultrafast-ci/ultrafast/steps/state"
)

const (
	minPrefix = 4 // hexadecimal digits
	digits    = 64
	maxListed = 8 // entries that a message names
)

// Find returns the entry that text names: its digest, or a beginning of that which
// no other entry has, with or without "sha256:". If no entry is so named, that
// which was written last among those that hold an artifact so named counts. One
// that is not there is fault.Unavailable, a name for several fault.Usage.
func (s *Store) Find(ctx context.Context, text string) (state.Digest, error) {
	const hint = "give a digest as `ultrafast state show` prints it: at least 4 of its hexadecimal digits"
	prefix := strings.TrimPrefix(text, "sha256:")
	if len(prefix) < minPrefix || len(prefix) > digits || strings.Trim(prefix, "0123456789abcdef") != "" {
		return "", fault.New(fault.Usage, hint, "%.100q is no digest and no beginning of one", text)
	}
	if len(prefix) == digits {
		d := state.Digest("sha256:" + prefix)
		if _, _, err := s.config(ctx, "entry "+d.Short(), d, state.MediaTypeClaim); err == nil {
			return d, nil
		}
	}
	listed, err := s.medium.list(ctx)
	if err != nil {
		return "", err
	}
	entries, err := listed.entries(ctx)
	if err != nil {
		return "", err
	}
	var found []state.Digest
	for _, d := range entries {
		if strings.HasPrefix(d.Hex(), prefix) {
			found = append(found, d)
		}
	}
	switch {
	case len(found) == 1:
		return found[0], nil
	case len(found) > 1:
		return "", fault.New(fault.Usage, "give more of its digits", "%s is the beginning of %d entries: %s", text, len(found), some(found))
	}
	return s.holder(ctx, entries, text, prefix)
}

func some(digests []state.Digest) string {
	var names []string
	for i, d := range digests {
		if i == maxListed {
			names = append(names, "...")
			break
		}
		names = append(names, d.Hex())
	}
	return strings.Join(names, ", ")
}

// holder returns the last entry that holds the artifact.
func (s *Store) holder(ctx context.Context, entries []state.Digest, text, prefix string) (holder state.Digest, err error) {
	artifact := ""
	for _, d := range entries {
		raw, err := s.medium.manifest(ctx, "entry "+d.Short(), d)
		if err != nil {
			return "", err
		}
		var m struct {
			Layers []descriptor `json:"layers"`
		}
		if err := json.NewDecoder(bytes.NewReader(raw)).Decode(&m); err != nil {
			return "", fmt.Errorf("entry %s: %w", d.Short(), err)
		}
		for _, layer := range m.Layers {
			switch hex := layer.Digest.Hex(); {
			case !strings.HasPrefix(hex, prefix):
			case artifact != "" && artifact != hex:
				return "", fault.New(fault.Usage, "give more of its digits", "%s is the beginning of several artifacts: %s, %s", text, artifact, hex)
			default:
				artifact, holder = hex, d
			}
		}
	}
	if holder == "" {
		return "", fault.New(fault.Unavailable, "name the store that it was written to with --store, or give the state as it was printed, <store>@sha256:<digest>",
			"no entry and no artifact %s is in the store %s", text, s.URL())
	}
	return holder, nil
}
