// Package policy reads the rules by which a release is judged and the keys whose
// judgement counts.
//
// A [TrustRoot] comes from a place that the judged code cannot write: a protected
// ref, a file outside the workspace, a secret. It never comes from the state or
// from a key made in the same run. The package parses bytes that it is given; it
// opens no file, checks no signature and judges nothing itself.
//
//	version = 1
//
//	[[key]]
//	name = "release"
//	public = """
//	-----BEGIN PUBLIC KEY-----
//	…
//	-----END PUBLIC KEY-----
//	"""
//
//	[policy]
//	required = ["tests-passed", "nonroot"]
package policy
