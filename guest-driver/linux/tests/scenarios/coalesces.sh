# SPDX-License-Identifier: GPL-2.0-only
# host flush: 20 ms
# One flusher costs a host flush each; sixteen share them.
load_driver
rate() {
	begin=$(cut -d. -f1 /proc/uptime) flushed=$(flusher done)
	sleep 10
	echo "NOTE $1 threads: $((($(flusher done) - flushed) * 10 / ($(cut -d. -f1 /proc/uptime) - begin))) flushes in 10 s, the longest took $(flusher longest_us) us"
}
if [ "$DRIVER" = c ]; then
	# It counts nothing; its speed is all there is to see.
	insmod /modules/flusher.ko threads=16
	rate 16
	fail "the C driver has no counters"
fi
insmod /modules/flusher.ko threads=1
wait_for "50 flushes" at_least 50 flusher done
rmmod flusher
alone=$(counter flushes) hosts=$(counter host_flushes)
expect "host flushes of a single flusher" "$alone" "$hosts"
insmod /modules/flusher.ko threads=16
wait_for "1000 flushes" at_least 1000 flusher done
expect errors 0 $(($(flusher eio) + $(flusher enodev) + $(flusher etimedout) + $(flusher other)))
rate 16
rmmod flusher
shared=$(($(counter flushes) - alone)) hosts=$(($(counter host_flushes) - hosts))
echo "NOTE 1 thread: $alone flushes, $alone host flushes; 16 threads: $shared flushes, $hosts host flushes"
[ $((hosts * 5)) -le "$shared" ] || fail "$hosts host flushes for $shared flushes"
expect coalesced $((shared - hosts)) "$(counter coalesced)"
