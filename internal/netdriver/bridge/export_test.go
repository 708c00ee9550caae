package bridge

// SCTPFlow reads a tracked flow.
var SCTPFlow = sctpFlow
