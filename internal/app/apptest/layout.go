package apptest

import (
	"archive/tar"
	"bytes"
	"encoding/json"
	"os"
	"path"
	"path/filepath"
	"runtime"

	"github.com/rogpeppe/go-internal/testscript"

	"github.com/ultrafast-ci/ultrafast/steps/state"
)

// layout writes an OCI layout with one image of one file, a program that needs no
// other: layout DIR NAME:TAG PROGRAM
func layout(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) != 3 {
		ts.Fatalf("usage: layout DIR NAME:TAG PROGRAM")
	}
	program, err := os.ReadFile(ts.MkAbs(args[2]))
	if err != nil {
		ts.Fatalf("%v", err)
	}
	if err := writeLayout(ts.MkAbs(args[0]), args[1], path.Base(args[2]), program); err != nil {
		ts.Fatalf("%v", err)
	}
}

func writeLayout(dir, name, file string, program []byte) error {
	var layer bytes.Buffer
	w := tar.NewWriter(&layer)
	if err := w.WriteHeader(&tar.Header{Name: file, Typeflag: tar.TypeReg, Mode: 0o755, Size: int64(len(program))}); err != nil {
		return err
	}
	if _, err := w.Write(program); err != nil {
		return err
	}
	if err := w.Close(); err != nil {
		return err
	}
	blobs := filepath.Join(dir, "blobs", "sha256")
	if err := os.MkdirAll(blobs, 0o755); err != nil {
		return err
	}
	put := func(mediaType string, b []byte) (map[string]any, error) {
		digest := state.DigestOf(b)
		return map[string]any{"mediaType": mediaType, "digest": digest, "size": len(b)}, os.WriteFile(filepath.Join(blobs, digest.Hex()), b, 0o644)
	}
	putJSON := func(mediaType string, v any) (map[string]any, error) {
		b, err := json.Marshal(v)
		if err != nil {
			return nil, err
		}
		return put(mediaType, b)
	}
	const image = "application/vnd.oci.image."
	content, err := put(image+"layer.v1.tar", layer.Bytes())
	if err != nil {
		return err
	}
	config, err := putJSON(image+"config.v1+json", map[string]any{
		"architecture": runtime.GOARCH, "os": "linux", "config": map[string]any{"Entrypoint": []string{"/" + file}},
		"rootfs": map[string]any{"type": "layers", "diff_ids": []any{content["digest"]}},
	})
	if err != nil {
		return err
	}
	manifest, err := putJSON(image+"manifest.v1+json", map[string]any{
		"schemaVersion": 2, "mediaType": image + "manifest.v1+json", "config": config, "layers": []any{content},
	})
	if err != nil {
		return err
	}
	manifest["annotations"] = map[string]string{"org.opencontainers.image.ref.name": name}
	index, err := json.Marshal(map[string]any{"schemaVersion": 2, "mediaType": image + "index.v1+json", "manifests": []any{manifest}})
	if err != nil {
		return err
	}
	if err := os.WriteFile(filepath.Join(dir, "index.json"), index, 0o644); err != nil {
		return err
	}
	return os.WriteFile(filepath.Join(dir, "oci-layout"), []byte(`{"imageLayoutVersion":"1.0.0"}`), 0o644)
}
