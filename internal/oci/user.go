package oci

import (
	"errors"
	"fmt"
	"io/fs"
	"slices"
	"strconv"
	"strings"

	"github.com/ultrafast-ci/ultrafast/steps/fault"
)

const (
	maxDatabase = 4 << 20 // bytes of a passwd or group file
	maxID       = 1<<31 - 1
	maxGroups   = 1024 // of one user
)

// User returns the ids that an image's user stands for: "", "name", "uid",
// and either with ":group" or ":gid". Names are those of the image's own /etc/passwd
// and /etc/group. Without a group it is the one that passwd has for the user, or 0.
func (t *Tree) User(user string) (uid, gid int, err error) {
	if user == "" {
		return 0, 0, nil
	}
	name, group, hasGroup := strings.Cut(user, ":")
	passwd, err := t.database("etc/passwd")
	if err != nil {
		return 0, 0, err
	}
	uid, err = parseID(name)
	if entry, ok := account(passwd, name, uid, err == nil, 7); ok {
		if uid, err = parseID(entry[2]); err == nil && !hasGroup {
			gid, err = parseID(entry[3])
		}
	}
	if err != nil {
		return 0, 0, fault.New(fault.Finding, "", "user %.100q of the image is not in its /etc/passwd", user)
	}
	if !hasGroup {
		return uid, gid, nil
	}
	groups, err := t.database("etc/group")
	if err != nil {
		return 0, 0, err
	}
	gid, err = parseID(group)
	if entry, ok := account(groups, group, gid, err == nil, 4); ok {
		gid, err = parseID(entry[2])
	}
	if err != nil {
		return 0, 0, fault.New(fault.Finding, "", "group of user %.100q of the image is not in its /etc/group", user)
	}
	return uid, gid, nil
}

// Groups returns the groups of the image's /etc/group, in its order, that name an image's
// user as a member; none for a user that says its group itself, as engines have it.
func (t *Tree) Groups(user string) ([]int, error) {
	if user == "" {
		user = "0"
	}
	if strings.Contains(user, ":") {
		return nil, nil
	}
	passwd, err := t.database("etc/passwd")
	if err != nil {
		return nil, err
	}
	uid, err := parseID(user)
	entry, ok := account(passwd, user, uid, err == nil, 7)
	if !ok {
		return nil, nil
	}
	groups, err := t.database("etc/group")
	if err != nil {
		return nil, err
	}
	var of []int
	for line := range strings.SplitSeq(string(groups), "\n") {
		group := strings.Split(line, ":")
		if len(group) < 4 || !slices.Contains(strings.Split(group[3], ","), entry[0]) {
			continue
		}
		gid, err := parseID(group[2])
		if err != nil {
			return nil, fmt.Errorf("group %.100q of the image: %w", group[0], err)
		}
		if of = append(of, gid); len(of) > maxGroups {
			return nil, fault.New(fault.Finding, "", "user %.100q of the image is in more than %d groups", user, maxGroups)
		}
	}
	return of, nil
}

func (t *Tree) database(name string) ([]byte, error) {
	b, err := t.ReadFile(name, maxDatabase)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	return b, err
}

// account returns the first entry whose name is name, or whose number is id.
func account(database []byte, name string, id int, numeric bool, fields int) ([]string, bool) {
	for line := range strings.SplitSeq(string(database), "\n") {
		entry := strings.Split(line, ":")
		if len(entry) < fields {
			continue
		}
		if entry[0] == name || numeric && entry[2] == strconv.Itoa(id) {
			return entry, true
		}
	}
	return nil, false
}

func parseID(s string) (int, error) {
	n, err := strconv.ParseUint(s, 10, 31)
	if err != nil || n > maxID {
		return 0, fault.New(fault.Finding, "", "%.40q is not a number of a user or group", s)
	}
	return int(n), nil
}
