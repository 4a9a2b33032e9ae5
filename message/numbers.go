package message

// Offsets that stand in a record's properties: those of the light queues that it is in beside its own (INNER_MULTI_QUEUE_OFFSET), and the
// first of the offsets that a batch takes (INNER_BASE). They are known when the log gives the record its place, so that their digits are
// always as many, with zeros in front (readers use Java's Long.parseLong).

// StampSize is how many digits an offset in the properties has.
const StampSize = 19

// PutStamp writes an offset over the StampSize bytes at the start of dst.
func PutStamp(dst []byte, offset int64) {
	for i := StampSize - 1; i >= 0; i-- {
		dst[i] = '0' + byte(offset%10)
		offset /= 10
	}
}

// StampsSize is the length of a property with n offsets, separator included.
func StampsSize(name string, n int) int { return len(name) + 1 + n*(StampSize+1) }

// AppendStamps appends a property with n offsets of zero, separated by commas, and returns where in p the first one stands. The others follow
// at StampSize+1 each.
func AppendStamps(p []byte, name string, n int) (_ []byte, first int) {
	if needsSeparator(p) {
		p = append(p, propertySeparator)
	}
	p = append(append(p, name...), nameValueSeparator)
	first = len(p)
	for range n {
		p = append(p, "0000000000000000000,"...)
	}
	p[len(p)-1] = propertySeparator
	return p, first
}
