package container

// What the tests of the parts see of them.
var (
	ParseBind    = parseBind
	ParseMounts  = parseMounts
	MergeImage   = mergeImage
	WantsRestart = wantsRestart
	StatusText   = statusText
	CommandText  = commandText
	ParseSignal  = parseSignal
	CopyUp       = copyUp
	ReadInLayers = readInLayers
	ProbeOf      = probeOf
	ParsePs      = parsePs
	StartError   = startError
	UntilTime    = untilTime
)

type (
	MountPoint = mountPoint
	Backoff    = backoff
	Probe      = probe
)

var (
	BackoffNext = (*backoff).next
	ProbeNext   = (*probe).next
	ProbeWait   = (*probe).wait
)

func (c column) Title() string { return c.title }
