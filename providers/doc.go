// Package providers is the contract between the engine and one outside system.
//
// A [Provider] has a [Driver] per kind that it can serve. A driver reads, applies
// and deletes; what else it can do it says by implementing one of the small
// optional interfaces ([Prober], [Observer], [Judge], [Logger], [Canceller],
// [Rollbacker], [BatchReader], [Preflighter]), each documented where it stands.
// [For] turns a driver for a Go struct into a Driver, so that no driver sees cty
// or a half-known spec. The package contains no outside system itself;
// providers/providertest is the kit that every driver passes.
package providers
