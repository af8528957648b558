package engine

import (
	"context"
	"encoding/json"
	"errors"
	"io"

	"github.com/containerd/errdefs"
	"github.com/moby/moby/client"
)

// Image is an image that the engine has.
type Image struct {
	// ID is the digest of its configuration.
	ID                   string
	Entrypoint, Cmd, Env []string
	WorkingDir           string
	// User is as in the image: names or numbers.
	User    string
	Volumes []string
}

// Image returns the image called ref, or [ErrNotFound].
func (c *Client) Image(ctx context.Context, ref string) (Image, error) {
	r, err := c.api.ImageInspect(ctx, ref)
	if err != nil {
		return Image{}, c.wrap(err, "look for image "+ref)
	}
	i := Image{ID: r.ID}
	if cf := r.Config; cf != nil {
		i.Entrypoint, i.Cmd, i.Env, i.WorkingDir, i.User = cf.Entrypoint, cf.Cmd, cf.Env, cf.WorkingDir, cf.User
		for v := range cf.Volumes {
			i.Volumes = append(i.Volumes, v)
		}
	}
	return i, nil
}

// LoadImage has the engine read an archive, as `docker save` writes it.
func (c *Client) LoadImage(ctx context.Context, r io.Reader) error {
	const doing = "load an image"
	answer, err := c.api.ImageLoad(ctx, r, client.ImageLoadWithQuiet(true))
	if err != nil {
		return c.wrap(err, doing)
	}
	return c.wrap(progress(answer), doing)
}

// PullImage has the engine fetch an image. Credentials are not sent.
func (c *Client) PullImage(ctx context.Context, ref string) error {
	doing := "have the engine pull image " + ref
	answer, err := c.api.ImagePull(ctx, ref, client.ImagePullOptions{})
	if err != nil {
		return c.wrap(err, doing)
	}
	return c.wrap(progress(answer), doing)
}

// maxProgress bounds what an engine may say of one image.
const maxProgress = 64 << 20

// progress reads what an engine says until it is done; the last line may be an error.
func progress(r io.ReadCloser) error {
	defer r.Close()
	for lines := json.NewDecoder(io.LimitReader(r, maxProgress)); ; {
		var line struct {
			Error string `json:"error"`
		}
		err := lines.Decode(&line)
		switch {
		case errors.Is(err, io.EOF):
			return nil
		case err != nil:
			return err
		case line.Error != "":
			return errors.New(line.Error)
		}
	}
}

// TagImage gives an image one more name, "repository:tag".
func (c *Client) TagImage(ctx context.Context, ref, name string) error {
	_, err := c.api.ImageTag(ctx, client.ImageTagOptions{Source: ref, Target: name})
	return c.wrap(err, "name image "+ref+" "+name)
}

// RemoveImage removes a name of an image, and the image with its last name. One that
// is gone is no error.
func (c *Client) RemoveImage(ctx context.Context, ref string) error {
	_, err := c.api.ImageRemove(ctx, ref, client.ImageRemoveOptions{})
	if errdefs.IsNotFound(err) {
		return nil
	}
	return c.wrap(err, "remove image "+ref)
}
