package lite

// Shard returns which of n queues, in order of their brokers, a lite topic belongs to, by the Java hash of its name: jump consistent
// hashing, as Guava does it (Hashing.consistentHash).
func Shard(hash int32, n int) int {
	state, candidate := uint64(int64(hash)), 0
	for {
		state = 2862933555777941757*state + 1
		unit := float64(int32(state>>33)+1) / (1 << 31)
		next := float64(candidate+1) / unit
		if next < 0 || next >= float64(n) {
			return candidate
		}
		candidate = int(next)
	}
}
