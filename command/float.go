package command

import (
	"bytes"
	"math/big"

	"github.com/holdfast/holdfast/resp"
	"github.com/holdfast/holdfast/store"
)

// INCRBYFLOAT calculates as Redis on amd64 does, in the 80-bit format of the x87:
// a mantissa of 64 bits, rounded to even, and binary exponents up to 2^14. The
// result is written with at most 17 decimals.
const (
	floatMantissa = 64
	floatMaxExp   = 1 << 14        // of a mantissa in [0.5, 1)
	floatMinExp   = 4 - 64 - 1<<14 // that of the smallest subnormal number
	floatDecimals = 17
	floatMaxText  = 5*1024 - 1 // longer texts are no numbers
)

// addFloatOp adds to a floating-point counter.
type addFloatOp struct {
	key []byte
	by  *big.Float
}

func parseAddFloat(args [][]byte) (addFloatOp, error) {
	by, ok := parseFloat(args[2])
	if !ok {
		return addFloatOp{}, resp.ErrNotFloat
	}
	return addFloatOp{key: args[1], by: by}, nil
}

func addFloat(tx *store.Tx, op addFloatOp) resp.Value {
	e, err := findString(&tx.Reader, op.key)
	if err != nil {
		return resp.Err(err)
	}
	sum := new(big.Float).SetPrec(floatMantissa)
	if e != nil {
		n, ok := parseFloat(e.Value().Bytes())
		if !ok {
			return resp.Err(resp.ErrNotFloat)
		}
		sum.Set(n)
	}
	if sum.IsInf() || op.by.IsInf() {
		return resp.Err(resp.ErrNaN)
	}
	sum.Add(sum, op.by)
	if sum.MantExp(nil) > floatMaxExp {
		return resp.Err(resp.ErrNaN)
	}
	text := floatText(sum)
	setString(tx, op.key, text, store.KeepDeadline, "incrbyfloat")
	return resp.Bulk(text)
}

// parseFloat reads a number in any form that C's strtold takes, but for "nan"
// and numbers that are too large or too small for the format.
func parseFloat(b []byte) (*big.Float, bool) {
	if len(b) == 0 || len(b) > floatMaxText {
		return nil, false
	}
	digits := b
	if b[0] == '-' || b[0] == '+' {
		digits = b[1:]
	}
	if is(digits, "inf") || is(digits, "infinity") {
		return new(big.Float).SetInf(b[0] == '-'), true
	}
	base, allowed := 10, "0123456789.eE+-"
	if len(digits) > 1 && digits[0] == '0' && lower(digits[1]) == 'x' {
		base, allowed, digits = 16, "0123456789abcdefABCDEF.pP+-", digits[2:]
	}
	if len(digits) == 0 || digits[0] == '+' || digits[0] == '-' || len(bytes.Trim(digits, allowed)) > 0 {
		return nil, false
	}
	n, _, err := new(big.Float).SetPrec(floatMantissa).Parse(string(digits), base)
	if err != nil || n.IsInf() || n.MantExp(nil) > floatMaxExp {
		return nil, false
	}
	tiny := n.Sign() == 0 || n.MantExp(nil) < floatMinExp
	if tiny && !onlyZeros(digits, base) {
		return nil, false
	}
	if b[0] == '-' {
		n.Neg(n)
	}
	return n, true
}

// onlyZeros tells whether the mantissa of a number is 0 as it is written.
func onlyZeros(digits []byte, base int) bool {
	exponent := "eE"
	if base == 16 {
		exponent = "pP"
	}
	if end := bytes.IndexAny(digits, exponent); end >= 0 {
		digits = digits[:end]
	}
	return len(bytes.Trim(digits, "0.")) == 0
}

// floatText writes n without exponent and without zeros at the end.
func floatText(n *big.Float) []byte {
	text := n.Append(make([]byte, 0, 32), 'f', floatDecimals)
	text = bytes.TrimRight(text, "0")
	text = bytes.TrimSuffix(text, []byte("."))
	if string(text) == "-0" {
		return []byte("0")
	}
	return text
}
