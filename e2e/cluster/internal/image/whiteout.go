//go:build linux

package image

import (
	"archive/tar"
	"maps"
	"path"
	"slices"
)

// addWhiteouts hides what the layers below have and now has not; a folder that is gone needs one whiteout, not one for each file.
// See the OCI image specification, "Representing Changes".
func addWhiteouts(tw *tar.Writer, before, now map[string]entry) error {
	for _, rel := range slices.Sorted(maps.Keys(before)) {
		if _, there := now[rel]; there {
			continue
		}
		if dir := path.Dir(rel); dir != "." {
			if _, there := now[dir]; !there {
				continue
			}
		}
		h := &tar.Header{Name: path.Join(path.Dir(rel), ".wh."+path.Base(rel)), Mode: 0o644, ModTime: Epoch, Format: tar.FormatPAX}
		if err := tw.WriteHeader(h); err != nil {
			return err
		}
	}
	return nil
}
