// Package registry is where template packages come from and where they are kept:
// the index of a registry with its cache, the files of a package, the store of
// installed packages and the lock file.
//
// A registry is a directory or any web host: an index, and packages beside it as
// directories or archives. [Open] takes a path, a file: URL or an http(s): URL.
//
// The package decides nothing about packages: it reads no index, resolves no
// version, verifies no digest. What it returns is untrusted until its caller has
// verified it. When the registry cannot be reached it uses what it fetched
// before and says so; it never makes anything up.
package registry
