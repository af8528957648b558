// Package market finds, resolves, verifies and installs template packages.
//
// [Step] is the phase: it resolves what the project asks for to one version per
// package, the same on every machine, verifies every package against its digest
// before a byte of it is unpacked or parsed, installs it in a content-addressed
// store, hands it on as an artifact of the chain and pins it in ggen.lock.
// [Search], [Find], [Categories] and [List] answer questions about an index.
//
// Where index, packages, store and lock file live is handed in through
// [Registry], [Store] and [Lock]. The package opens no file or connection, and
// never invents a package, version or digest that the index does not have.
package market
