package source

import (
	"context"
	"crypto/md5"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"hash"
	"io"
	"os"
	"path/filepath"
	"time"
)

// maxResumes bounds how often one download goes on after it broke off, however much it moves in between.
const maxResumes = 1000

// partial is a download on its way: the file, and the sums of what is in it.
type partial struct {
	f   *os.File
	sha hash.Hash
	md5 hash.Hash // the place's own check, and no more than that; nil when it gives none
	n   int64
	max int64
}

// Write implements io.Writer.
func (p *partial) Write(b []byte) (int, error) {
	if int64(len(b)) > p.max-p.n {
		return 0, kinded{ErrHostile, fmt.Errorf("it sends more than the %d bytes that it may", p.max)}
	}
	n, err := p.f.Write(b)
	p.sha.Write(b[:n])
	if p.md5 != nil {
		p.md5.Write(b[:n])
	}
	p.n += int64(n)
	return n, err
}

// restart forgets what was read.
func (p *partial) restart() error {
	p.sha.Reset()
	if p.md5 != nil {
		p.md5.Reset()
	}
	p.n = 0
	if err := p.f.Truncate(0); err != nil {
		return err
	}
	_, err := p.f.Seek(0, io.SeekStart)
	return err
}

// download has an object in the cache and returns it with size and sum.
func (r *Reader) download(ctx context.Context, a address, place objects, o object) (_ object, err error) {
	dir, err := r.store.scratch()
	if err != nil {
		return o, err
	}
	f, err := os.CreateTemp(dir, "part-*")
	if err != nil {
		return o, err
	}
	open := true
	defer func() {
		if open {
			err = errors.Join(err, f.Close())
		}
		if rerr := os.Remove(f.Name()); rerr != nil && !errors.Is(rerr, os.ErrNotExist) {
			err = errors.Join(err, rerr)
		}
	}()
	p := &partial{f: f, sha: sha256.New(), max: r.opt.MaxBytes}
	if o.md5 != "" {
		p.md5 = md5.New()
	}
	if o.Size >= 0 {
		p.max = o.Size
	}
	if err := r.transfer(ctx, a, place, o, p); err != nil {
		return o, err
	}
	if p.md5 != nil {
		if got := hex.EncodeToString(p.md5.Sum(nil)); got != o.md5 {
			return o, kinded{ErrHostile, fmt.Errorf("the bytes that came are damaged: their MD5 is %s, and the place says %s", got, o.md5)}
		}
	}
	o.Size, o.Sum = p.n, hex.EncodeToString(p.sha.Sum(nil))
	if a.pin != "" && o.Sum != a.pin {
		return o, kinded{ErrHostile, fmt.Errorf("its SHA-256 is %s, and the address wants %s; correct the digest in the address if the new file is meant", o.Sum, a.pin)}
	}
	open = false
	if err := f.Close(); err != nil {
		return o, err
	}
	return o, r.store.keep(filepath.Clean(f.Name()), o.Sum)
}

// transfer moves the bytes of an object. A connection that ends early is followed by one that goes on from there.
func (r *Reader) transfer(ctx context.Context, a address, place objects, o object, p *partial) error {
	stuck := 0
	for try := 0; ; try++ {
		before := p.n
		err := r.attempt(ctx, a, place, o, p)
		if err == nil || ctx.Err() != nil || !temporary(err) || errors.Is(err, ErrChanged) {
			return err
		}
		if p.n > before {
			stuck = 0
		}
		if stuck++; stuck >= r.opt.Attempts || try >= maxResumes {
			return fmt.Errorf("after %d bytes: %w (tried %d times)", p.n, err, try+1)
		}
		if o.ID == "" {
			// Nothing tells whether the rest would be of the same bytes.
			if err := p.restart(); err != nil {
				return err
			}
		}
		var busy *busyError
		var after time.Duration
		if errors.As(err, &busy) {
			after = min(busy.after, r.opt.MaxWait)
		}
		if err := r.pause(ctx, stuck, after); err != nil {
			return err
		}
	}
}

// attempt makes one request.
func (r *Reader) attempt(ctx context.Context, a address, place objects, o object, p *partial) error {
	ctx, dog := watch(ctx, r.opt.Stall)
	defer dog.end()
	body, from, err := place.get(ctx, a, o, p.n)
	if err != nil {
		return dog.blame(ctx, err)
	}
	if from != p.n {
		if from != 0 {
			return errors.Join(fmt.Errorf("it was asked for byte %d and gives byte %d", p.n, from), body.Close())
		}
		if err := p.restart(); err != nil {
			return errors.Join(err, body.Close())
		}
	}
	_, err = io.CopyBuffer(struct{ io.Writer }{p}, struct{ io.Reader }{dog.reader(body)}, make([]byte, 256<<10))
	if cause := context.Cause(ctx); cause != nil {
		// A body that was given up may end like one that is whole.
		err = cause
	}
	if err == nil && o.Size >= 0 && p.n < o.Size {
		err = fmt.Errorf("%w: %d of %d bytes came", errCut, p.n, o.Size)
	}
	if cerr := body.Close(); err == nil {
		err = cerr
	}
	return err
}

// watchdog cancels a request that does not move.
type watchdog struct {
	stall  time.Duration
	timer  *time.Timer
	cancel context.CancelCauseFunc
}

func watch(ctx context.Context, stall time.Duration) (context.Context, *watchdog) {
	ctx, cancel := context.WithCancelCause(ctx)
	return ctx, &watchdog{stall: stall, timer: time.AfterFunc(stall, func() { cancel(errStalled) }), cancel: cancel}
}

func (d *watchdog) end() {
	d.timer.Stop()
	d.cancel(nil)
}

// blame puts the stall in the place of the cancellation that it caused.
func (d *watchdog) blame(ctx context.Context, err error) error {
	if err != nil && errors.Is(context.Cause(ctx), errStalled) {
		return errStalled
	}
	return err
}

// reader tells the watchdog about every read.
func (d *watchdog) reader(r io.Reader) io.Reader { return fed{r, d} }

type fed struct {
	r   io.Reader
	dog *watchdog
}

// Read implements io.Reader.
func (f fed) Read(p []byte) (int, error) {
	n, err := f.r.Read(p)
	if n > 0 {
		f.dog.timer.Reset(f.dog.stall)
	}
	return n, err
}
