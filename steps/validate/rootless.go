package validate

import (
	"bytes"
	"context"
	"debug/elf"
	"encoding/binary"
	"errors"
	"io"
	"os"
	"path"
	"strings"

	"github.com/ultrafast-ci/ultrafast/steps/fault"
	"github.com/ultrafast-ci/ultrafast/steps/sandbox"
)

// defaultPath is what container engines set when the image does not.
const defaultPath = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"

// withoutRoot places an image where a container has no root of its own: its files are
// mounted, and the program is called by where they really are. Nothing of the host is
// taken for the image's: the links of the image are turned inwards first, the program is
// looked up in the image, and one that the host's loader would start is refused. What the
// service itself opens by an absolute path is still the host's, as far as the sandbox
// shows it.
func (s *subject) withoutRoot(ctx context.Context, spec sandbox.ContainerSpec, image *openImage, env sandbox.Environment) (_ sandbox.ContainerSpec, err error) {
	if !image.enclosed {
		if err := s.step.Images.Enclose(ctx, image.root); err != nil {
			return spec, fault.Wrap(err, fault.Unavailable, "", "turn the links of the image inwards")
		}
		image.enclosed = true
	}
	files, err := os.OpenRoot(image.root)
	if err != nil {
		return spec, fault.New(fault.Unavailable, "", "open the image: %w", err)
	}
	defer func() { err = errors.Join(err, files.Close()) }()
	mount := sandbox.Mount{Kind: sandbox.ReadOnly, Source: image.root, Target: "/image"}
	root := env.Path(spec.Name, mount)
	temp := sandbox.Mount{Kind: sandbox.Scratch, Target: "/tmp"}
	spec.Mounts = []sandbox.Mount{mount, temp}
	search := strings.Split(searchPath(spec.Env), ":")
	if len(spec.Argv) > 0 {
		program, err := locate(files, spec.Dir, search, spec.Argv[0])
		if err == nil {
			err = startsAlone(files, program, env.Effective().Level)
		}
		if err != nil {
			return spec, err
		}
		spec.Argv = append([]string{path.Join(root, program)}, spec.Argv[1:]...)
	}
	for i, dir := range search {
		search[i] = path.Join(root, path.Join("/", dir))
	}
	spec.Dir = path.Join(root, path.Join("/", spec.Dir))
	spec.Env = append(spec.Env, "TMPDIR="+env.Path(spec.Name, temp), "PATH="+strings.Join(search, ":"))
	return spec, nil
}

// searchPath is the last PATH of an environment.
func searchPath(env []string) string {
	search := defaultPath
	for _, kv := range env {
		if value, ok := strings.CutPrefix(kv, "PATH="); ok {
			search = value
		}
	}
	return search
}

// locate returns the program of an image, relative to its root. No link of it is followed
// out of the root.
func locate(files *os.Root, dir string, search []string, name string) (string, error) {
	if strings.Contains(name, "/") {
		search = []string{dir}
		if path.IsAbs(name) {
			search = []string{"/"}
		}
	}
	for _, dir := range search {
		program := path.Join("/", dir, name)[1:]
		if info, err := files.Stat(program); program != "" && err == nil && info.Mode().IsRegular() {
			return program, nil
		}
	}
	return "", fault.New(fault.Finding, "check the image's entry point, or [service] command", "program %.200q is not a file of the image", name)
}

// startsAlone refuses a program that the kernel starts by another, whose path it takes
// from the host's root: a script, or what is linked dynamically.
func startsAlone(files *os.Root, program string, level sandbox.Level) (err error) {
	f, err := files.Open(program)
	if err != nil {
		return fault.New(fault.Finding, "", "read the program of the image: %w", err)
	}
	defer func() { err = errors.Join(err, f.Close()) }()
	by, err := interpreter(f)
	if err != nil || by == "" {
		return err // what cannot be read the kernel refuses too, and says why
	}
	return fault.New(fault.Unavailable, "validate where isolation full can be had, or link the program statically",
		"at isolation %s a service has no root of its own: /%s of the image would be started by the host's %s, not by the image's", level, program, by)
}

// interpreter returns what starts a program: the first word after "#!", or the loader
// that an ELF file of 64 bits names; empty for none.
func interpreter(f io.ReaderAt) (string, error) {
	head := make([]byte, 256) // as much as Linux reads of a script
	n, err := f.ReadAt(head, 0)
	if err != nil && !errors.Is(err, io.EOF) {
		return "", fault.New(fault.Unavailable, "", "read the program of the image: %w", err)
	}
	head = head[:n]
	if line, ok := bytes.CutPrefix(head, []byte("#!")); ok {
		line, _, _ = bytes.Cut(line, []byte("\n"))
		words := strings.Fields(string(line))
		return strings.Join(words[:min(1, len(words))], ""), nil
	}
	var h elf.Header64
	if !bytes.HasPrefix(head, []byte(elf.ELFMAG)) || len(head) < binary.Size(h) || elf.Class(head[elf.EI_CLASS]) != elf.ELFCLASS64 {
		return "", nil
	}
	var order binary.ByteOrder = binary.LittleEndian
	if elf.Data(head[elf.EI_DATA]) == elf.ELFDATA2MSB {
		order = binary.BigEndian
	}
	if _, err := binary.Decode(head, order, &h); err != nil {
		return "", nil
	}
	for i := range int64(h.Phnum) {
		var p elf.Prog64
		b := make([]byte, binary.Size(p))
		if _, err := f.ReadAt(b, int64(h.Phoff)+i*int64(h.Phentsize)); err != nil {
			return "", nil
		}
		if _, err := binary.Decode(b, order, &p); err != nil || elf.ProgType(p.Type) != elf.PT_INTERP {
			continue
		}
		name := make([]byte, min(p.Filesz, 4096))
		n, _ := f.ReadAt(name, int64(p.Off)) // what is missing is missing in the text
		name, _, _ = bytes.Cut(name[:n], []byte{0})
		return string(name), nil
	}
	return "", nil
}
