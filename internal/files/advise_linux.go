package files

import "golang.org/x/sys/unix"

// adviseSequential doubles the kernel's read-ahead. It is advice: a refusal changes nothing.
func adviseSequential(h handle) {
	var fd int
	switch f := h.(type) {
	case rawFile:
		fd = int(f)
	case osFile:
		fd = int(f.Fd())
	default:
		return
	}
	_ = unix.Fadvise(fd, 0, 0, unix.FADV_SEQUENTIAL)
}
