package cgroup

// For tests of what other kernels and other groups are like.
var (
	Forgets  = forgets
	Narrowed = narrowed
)
