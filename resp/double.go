package resp

import (
	"bytes"
	"math"
	"strconv"
)

// exactInts is the bound below which a double without fraction is written as an
// integer with all its digits.
const exactInts = 1 << 62

// appendDouble writes f as Redis 7.2 does: the shortest digits that read back as
// f, as an integer where f is one, without an exponent unless that would take
// many zeros, with inf, -inf and nan spelled out. (Redis 7.0 writes 17 digits.)
func appendDouble(dst []byte, f float64) []byte {
	switch {
	case math.IsInf(f, 1):
		return append(dst, "inf"...)
	case math.IsInf(f, -1):
		return append(dst, "-inf"...)
	case math.IsNaN(f):
		return append(dst, "nan"...)
	case f == 0 && math.Signbit(f):
		return append(dst, "-0"...)
	case math.Abs(f) < exactInts && f == math.Trunc(f):
		return strconv.AppendInt(dst, int64(f), 10)
	}
	var space [32]byte
	mantissa, exponent, _ := bytes.Cut(strconv.AppendFloat(space[:0], math.Abs(f), 'e', -1, 64), []byte{'e'})
	power, _ := strconv.Atoi(string(exponent)) // of the first digit; what strconv wrote it reads
	digits := max(1, len(mantissa)-1)          // without the point
	last := power - digits + 1                 // power of the last digit
	if (last >= 0 && last < 8) || (last < 0 && (last > -7 || (-4 < power && power < 4))) {
		return strconv.AppendFloat(dst, f, 'f', -1, 64)
	}
	if f < 0 {
		dst = append(dst, '-')
	}
	dst = append(dst, mantissa...)
	dst = append(dst, 'e', exponent[0])
	return strconv.AppendInt(dst, int64(max(power, -power)), 10)
}
