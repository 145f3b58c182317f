package tabular

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"

	"github.com/klauspost/compress/gzip"
	"github.com/klauspost/compress/zstd"
)

// input is one open data file. It counts what goes in and out, so that a bomb, a cancelled context and a file that changes are all
// noticed where the bytes are.
type input struct {
	ctx    context.Context // one read's context; Reader documents why it is kept
	path   string
	file   *os.File
	before os.FileInfo
	ratio  ratioGuard
	stream io.Reader // decompressed
	zstd   *zstd.Decoder
}

func openInput(ctx context.Context, path, compression string, limits Limits) (*input, error) {
	if err := ctx.Err(); err != nil {
		return nil, &Error{File: path, Err: err}
	}
	// Asked before it is opened: opening a FIFO would wait for a writer for ever.
	info, err := os.Stat(path)
	if err != nil {
		return nil, fmt.Errorf("open data: %w", err)
	}
	if !info.Mode().IsRegular() {
		return nil, &Error{File: path, Err: fmt.Errorf("is not a regular file (%s); name a file", info.Mode().Type())}
	}
	f, err := os.Open(path)
	if err != nil {
		return nil, fmt.Errorf("open data: %w", err)
	}
	in := &input{ctx: ctx, path: path, file: f, ratio: ratioGuard{limit: int64(limits.Ratio)}}
	if in.before, err = f.Stat(); err == nil {
		err = in.decompress(compression)
	}
	if err != nil {
		return nil, errors.Join(&Error{File: path, Err: err}, f.Close())
	}
	return in, nil
}

func (in *input) decompress(compression string) error {
	raw := readerFunc(func(p []byte) (int, error) {
		if err := in.ctx.Err(); err != nil {
			return 0, err
		}
		n, err := in.file.Read(p)
		in.ratio.in += int64(n)
		return n, err
	})
	switch compression {
	case "gz":
		z, err := gzip.NewReader(raw)
		if err != nil {
			return fmt.Errorf("read gzip header: %w; the file is empty, cut off, or not gzip", unexpected(err))
		}
		in.stream = z
	case "zst":
		// One goroutine-free decoder; a window over 128 MiB is what no encoder writes unasked.
		z, err := zstd.NewReader(raw, zstd.WithDecoderConcurrency(1), zstd.WithDecoderLowmem(true), zstd.WithDecoderMaxWindow(128<<20))
		if err != nil {
			return fmt.Errorf("read zstd header: %w", unexpected(err))
		}
		in.zstd, in.stream = z, z
	default:
		in.stream = raw
		in.ratio.limit = 0
	}
	return nil
}

// Read reads decompressed bytes.
func (in *input) Read(p []byte) (int, error) {
	n, err := in.stream.Read(p)
	in.ratio.out += int64(n)
	if err == nil || errors.Is(err, io.EOF) {
		if rerr := in.ratio.check(); rerr != nil {
			return n, rerr
		}
	}
	if err != nil && !errors.Is(err, io.EOF) {
		err = fmt.Errorf("read: %w", err)
	}
	return n, err
}

// changed reports ErrChanged when the path no longer holds what was opened. Size and modification time are compared, on the open file
// and on the path, so that writing in place and replacing are both seen.
func (in *input) changed() error {
	held, err := in.file.Stat()
	if err != nil {
		return &Error{File: in.path, Err: fmt.Errorf("stat after reading: %w", err)}
	}
	named, err := os.Stat(in.path)
	if err != nil {
		return &Error{File: in.path, Err: fmt.Errorf("%w: %w; read it again when its writer is done", ErrChanged, err)}
	}
	for _, after := range []os.FileInfo{held, named} {
		if after.Size() != in.before.Size() || !after.ModTime().Equal(in.before.ModTime()) {
			return &Error{File: in.path, Err: fmt.Errorf("%w: %d bytes of %s before, %d bytes of %s after; read it again when its writer is done",
				ErrChanged, in.before.Size(), in.before.ModTime().UTC().Format("15:04:05.000000"), after.Size(), after.ModTime().UTC().Format("15:04:05.000000"))}
		}
	}
	if !os.SameFile(in.before, named) {
		return &Error{File: in.path, Err: fmt.Errorf("%w: another file took its place; read it again", ErrChanged)}
	}
	return nil
}

func (in *input) close() error {
	if in.zstd != nil {
		in.zstd.Close()
	}
	if err := in.file.Close(); err != nil {
		return fmt.Errorf("close data: %w", err)
	}
	return nil
}

// ratioGuard refuses what decompresses to far more than data does. Small outputs are let through, as a page of zeros is no bomb.
type ratioGuard struct {
	limit, in, out int64
}

const ratioFloor = 8 << 20

func (g *ratioGuard) check() error {
	if g.limit > 0 && g.out > ratioFloor && g.out/max(g.in, 1) > g.limit {
		return limitf("ratio", "%d compressed bytes decompress to more than %d, over %d to 1: a decompression bomb, or data to be stored plain", g.in, g.out, g.limit)
	}
	return nil
}

type readerFunc func([]byte) (int, error)

func (f readerFunc) Read(p []byte) (int, error) { return f(p) }

// unexpected turns an end of file in the middle of something into the error that says so.
func unexpected(err error) error {
	if errors.Is(err, io.EOF) && !errors.Is(err, io.ErrUnexpectedEOF) {
		return io.ErrUnexpectedEOF
	}
	return err
}
