# SPDX-License-Identifier: GPL-2.0-only
# One flusher costs a host flush each; sixteen share them.
load_driver
# How fast 16 threads are
rate() {
	begin=$(cut -d. -f1 /proc/uptime) flushed=$(flusher done)
	sleep 10
	measure flushes_in_10_s $((($(flusher done) - flushed) * 10 / ($(cut -d. -f1 /proc/uptime) - begin)))
	measure longest_us "$(flusher longest_us)"
}
if [ "$DRIVER" = c ]; then
	# It counts nothing; its speed is all there is to see.
	insmod /modules/flusher.ko threads=16
	rate
	expect errors 0 "$(failed)"
	skip "the kernel's driver has no counters"
fi
insmod /modules/flusher.ko threads=1
wait_for "50 flushes" at_least 50 flusher done
rmmod flusher
alone=$(counter flushes) hosts=$(counter host_flushes)
expect "host flushes of a single flusher" "$alone" "$hosts"
insmod /modules/flusher.ko threads=16
wait_for "1000 flushes" at_least 1000 flusher done
expect errors 0 "$(failed)"
rate
rmmod flusher
shared=$(($(counter flushes) - alone)) hosts=$(($(counter host_flushes) - hosts))
measure alone "$alone"
measure shared "$shared"
measure shared_host_flushes "$hosts"
[ $((hosts * 5)) -le "$shared" ] || fail "$hosts host flushes for $shared flushes"
expect coalesced $((shared - hosts)) "$(counter coalesced)"
