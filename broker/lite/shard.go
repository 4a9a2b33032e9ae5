package lite

// Shard returns which of n queues, in order of their brokers, a lite topic belongs to, by the Java hash of its name: jump consistent
// hashing, as Guava does it (Hashing.consistentHash).
func Shard(hash int32, n int) int {
	state, candidate := uint64(int64(hash)), 0
	for {
		state = 2862933555777941757*state + 1
		unit := float64(int32(state>>33)+1) / (1 << 31)
		if next := float64(candidate+1) / unit; next >= float64(n) || next < 0 {
			return candidate
		} else {
			candidate = int(next)
		}
	}
}
