package github

import (
	"errors"
	"fmt"
	"os"
	"syscall"

	"github.com/ultrafast-ci/ultrafast/internal/platform/runner"
	"github.com/ultrafast-ci/ultrafast/steps/fault"
)

// Drop gives up root for the uid and gid of the workspace's owner, where the process
// is root in a container and the workspace belongs to another. The supplementary
// groups are that gid alone. Files then belong to the user whose job it is, and a
// fault in what reads them is no fault of root's.
//
// It must be called before the process reads any input. If the container was not
// allowed to change users, the error is of kind fault.Unavailable: to stay root
// without a word would be worse.
func Drop(lookup runner.Lookup) error {
	workspace := lookup.Get("GITHUB_WORKSPACE")
	if syscall.Geteuid() != 0 || workspace == "" || !inContainer(workspace) {
		return nil
	}
	return becomeOwner(workspace)
}

func becomeOwner(workspace string) error {
	info, err := os.Stat(workspace)
	if err != nil {
		return fault.Wrap(err, fault.Unavailable, "mount the workspace into the container", "find the owner of the workspace")
	}
	owner, ok := info.Sys().(*syscall.Stat_t)
	if !ok || owner.Uid == 0 {
		return nil
	}
	if err := become(int(owner.Uid), int(owner.Gid)); err != nil {
		return fault.Wrap(err, fault.Unavailable, "run the container with the capabilities SETUID and SETGID, or as the owner: --user",
			fmt.Sprintf("become the owner of the workspace (%d:%d)", owner.Uid, owner.Gid))
	}
	return nil
}

// become changes all threads of the process. The order matters: without root the
// groups can no longer be changed. A change of the uid from 0 clears every
// capability (capabilities(7)).
func become(uid, gid int) error {
	if err := syscall.Setgroups([]int{gid}); err != nil {
		return fmt.Errorf("setgroups: %w", err)
	}
	if err := syscall.Setresgid(gid, gid, gid); err != nil {
		return fmt.Errorf("setresgid: %w", err)
	}
	if err := syscall.Setresuid(uid, uid, uid); err != nil {
		return fmt.Errorf("setresuid: %w", err)
	}
	if syscall.Geteuid() != uid || syscall.Setresuid(0, 0, 0) == nil {
		return errors.New("root could be taken back")
	}
	return nil
}

// inContainer reports whether the process is in a container action, or in another
// container of Docker or Podman.
func inContainer(workspace string) bool {
	if workspace == containerWorkspace {
		return true
	}
	for _, mark := range []string{"/.dockerenv", "/run/.containerenv"} {
		if _, err := os.Stat(mark); err == nil {
			return true
		}
	}
	return false
}
