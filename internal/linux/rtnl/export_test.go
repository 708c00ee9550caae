package rtnl

// Dump is dump.
func Dump[T any](ask func() ([]T, error)) ([]T, error) { return dump(ask) }
