package oci

import (
	"fmt"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/tarball"
	"github.com/google/go-containerregistry/pkg/v1/types"
)

// archived reads the image in a file that `docker save` or BuildKit wrote. It stays on the disk.
func archived(file string) (v1.Image, types.MediaType, error) {
	img, err := tarball.ImageFromPath(file, nil)
	if err != nil {
		return nil, "", fmt.Errorf("read the image in %s: %w", file, err)
	}
	return img, types.DockerUncompressedLayer, nil
}

// wantPlatform refuses an image that would not run where it is wanted.
func wantPlatform(conf *v1.ConfigFile, want v1.Platform, base string) error {
	if have := conf.Platform(); have == nil || have.OS != want.OS || have.Architecture != want.Architecture {
		return fmt.Errorf("%s is for %s/%s, and %s was asked for; choose another base or platform", base, conf.OS, conf.Architecture, want)
	}
	return nil
}
