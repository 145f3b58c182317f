package providers

import (
	"context"
	"fmt"

	"github.com/continuo-ml/continuo/resource"
)

// Typed is a driver that gets its spec as the Go struct S.
type Typed[S any] interface {
	Read(ctx context.Context, req ReadRequest) (Object, error)
	Apply(ctx context.Context, spec S, req ApplyRequest) (Result, error)
	Delete(ctx context.Context, req DeleteRequest) error
}

// TypedDriver is a Driver around a Typed one. The optional interfaces are found
// through As.
type TypedDriver[S any] struct{ Inner Typed[S] }

// For makes a Driver of a typed driver.
func For[S any](t Typed[S]) *TypedDriver[S] { return &TypedDriver[S]{Inner: t} }

// Read implements Driver.
func (d *TypedDriver[S]) Read(ctx context.Context, req ReadRequest) (Object, error) {
	return d.Inner.Read(ctx, req)
}

// Apply implements Driver. It refuses a spec that is not wholly known.
func (d *TypedDriver[S]) Apply(ctx context.Context, req ApplyRequest) (Result, error) {
	var spec S
	if err := resource.Decode(req.Spec, &spec); err != nil {
		return Result{}, fmt.Errorf("%s: read its attributes: %w", req.Address, err)
	}
	return d.Inner.Apply(ctx, spec, req)
}

// Delete implements Driver.
func (d *TypedDriver[S]) Delete(ctx context.Context, req DeleteRequest) error {
	return d.Inner.Delete(ctx, req)
}

// Unwrap gives the typed driver, on which As looks for optional interfaces.
func (d *TypedDriver[S]) Unwrap() any { return d.Inner }

// As returns the driver's optional interface T, whether the driver itself or the
// typed driver inside it has it.
func As[T any](d Driver) (T, bool) {
	if t, ok := d.(T); ok {
		return t, true
	}
	if u, ok := d.(interface{ Unwrap() any }); ok {
		t, ok := u.Unwrap().(T)
		return t, ok
	}
	var zero T
	return zero, false
}
