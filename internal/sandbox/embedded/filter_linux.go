package embedded

// RestrictCalls loads the filter of system calls that payloads have at level Full on
// the calling thread, which needs no_new_privs. What that thread starts inherits it.
// Other back ends of this tree put it behind what their engine filters.
func RestrictCalls() error { return filterCalls() }
