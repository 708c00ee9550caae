#include "textflag.h"

// func vfork(call, a1, a2, a3 uintptr) (pid, errno uintptr)
//
// The child runs first, on the same stack, and overwrites the return address that
// lies there: it is kept in a register meanwhile.
TEXT ·vfork(SB),NOSPLIT|NOFRAME,$0-48
	MOVQ	call+0(FP), AX
	MOVQ	a1+8(FP), DI
	MOVQ	a2+16(FP), SI
	MOVQ	a3+24(FP), DX
	XORL	R10, R10
	XORL	R8, R8
	XORL	R9, R9
	POPQ	R12
	SYSCALL
	PUSHQ	R12
	CMPQ	AX, $0xfffffffffffff001
	JLS	ok
	NEGQ	AX
	MOVQ	$0, pid+32(FP)
	MOVQ	AX, errno+40(FP)
	RET
ok:
	MOVQ	AX, pid+32(FP)
	MOVQ	$0, errno+40(FP)
	RET
