package modelformat

// How the argument of a pickle's opcode is written.
type argument uint8

const (
	argInvalid argument = iota
	argNone
	arg1 // so many bytes
	arg2
	arg4
	arg8
	argLine     // up to a line break
	argTwoLines // module and name
	argText1    // a length of so many bytes, then text
	argText4
	argText8
	argData1 // a length of so many bytes, then bytes
	argData4
	argData8
)

// argumentOf knows the opcodes of protocols 0 to 5, as CPython's Lib/pickletools.py documents them.
func argumentOf(op byte) argument {
	switch op {
	case '(', '.', '0', '1', '2', 'N', 'Q', 'R', 'a', 'b', 'd', '}', 'e', 'l', ']', 'o', 's', 't', ')', 'u',
		0x81, 0x85, 0x86, 0x87, 0x88, 0x89, 0x8f, 0x90, 0x91, 0x92, 0x93, 0x94, 0x97, 0x98:
		return argNone
	case 'K', 'h', 'q', 0x80, 0x82:
		return arg1
	case 'M', 0x83:
		return arg2
	case 'J', 'j', 'r', 0x84:
		return arg4
	case 'G', 0x95:
		return arg8
	case 'F', 'I', 'L', 'P', 'S', 'V', 'g', 'p':
		return argLine
	case 'c', 'i':
		return argTwoLines
	case 'U', 0x8c:
		return argText1
	case 'T', 'X':
		return argText4
	case 0x8d:
		return argText8
	case 'C', 0x8a:
		return argData1
	case 'B', 0x8b:
		return argData4
	case 0x8e, 0x96:
		return argData8
	}
	return argInvalid
}
