package validate

import (
	"context"
	"fmt"
	"strconv"
	"strings"

	"github.com/ultrafast-ci/ultrafast/steps/finding"
)

// nonroot reads the user of the image. A name would have to be looked up in the
// image's own /etc/passwd, which the image can make say anything; Kubernetes'
// runAsNonRoot refuses names for the same reason.
func nonroot(ctx context.Context, s *subject) (opinion, error) {
	image, err := s.openedImage(ctx)
	if err != nil {
		return opinion{}, err
	}
	if image == nil {
		return unknown("there is no image"), nil
	}
	user := image.config.User
	bad := func(what string) (opinion, error) {
		return fail(finding.Finding{What: what, Fix: `set the image's user to numbers, for example "65532:65532"`}), nil
	}
	if user == "" {
		return bad("the image names no user, so it runs as root")
	}
	first, _, _ := strings.Cut(user, ":")
	uid, err := strconv.ParseUint(first, 10, 32)
	switch {
	case err != nil:
		return bad(fmt.Sprintf("the image's user %.80q is not a number", user))
	case uid == 0:
		return bad(fmt.Sprintf("the image's user is %s, root", user))
	}
	return pass(fmt.Sprintf("the configuration of image %s names user %s", s.built.Entry.Cleanroom.Image.Short(), user)), nil
}

// userIDs returns the numbers of "uid[:gid]"; what is not a number is zero, which
// a sandbox takes as nobody.
func userIDs(user string) (uid, gid int) {
	u, g, _ := strings.Cut(user, ":")
	number := func(s string) int {
		n, err := strconv.ParseUint(s, 10, 31)
		if err != nil {
			return 0
		}
		return int(n)
	}
	return number(u), number(g)
}
