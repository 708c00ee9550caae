package shim

// MessageInfo is what the tests see of a message's.
type MessageInfo struct {
	Stream    uint16
	Unordered bool
	PPID      uint32
}

// ReceivedInfo reads control messages, SendingInfo writes one.
func ReceivedInfo(oob []byte) (MessageInfo, bool) {
	m, ok := receivedInfo(oob)
	return MessageInfo{m.stream, m.unordered, m.ppid}, ok
}

func SendingInfo(i MessageInfo) []byte {
	m := messageInfo{stream: i.Stream, unordered: i.Unordered, ppid: i.PPID}
	return m.sending()
}

// What Notice says.
const (
	NoticeNone = noticeNone
	NoticeEnd  = noticeEnd
	NoticeLost = noticeLost
	NoticeCut  = noticeCut
)

var Notice = notice
