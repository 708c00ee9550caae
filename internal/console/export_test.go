package console

// KeepDescriptors for tests.
var KeepDescriptors = keepDescriptors
