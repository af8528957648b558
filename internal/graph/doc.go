// Package graph holds RDF 1.1 graphs in memory: a dictionary that gives every
// term a small number in order of first appearance, and three sorted indexes
// of triples of such numbers (subject-predicate-object, predicate-object-subject,
// object-subject-predicate), so that every pattern is one contiguous range.
//
// A [Builder] collects triples; [Builder.Build] returns a [Graph], which never
// changes and may be read by any number of goroutines. A Graph is an RDF
// dataset: one default graph and any number of named graphs over one dictionary.
// Terms cross the boundary of this package as knakk/rdf values.
//
// Subpackage turtle reads Turtle and N-Triples, subpackage sparql answers
// queries. Nothing here opens a file, a socket or a clock, and no result
// depends on map order or on the addresses of anything.
package graph
