# SPDX-License-Identifier: GPL-2.0-only
# An answer that comes after its waiters have left: harmless.
load_driver flush_timeout_ms=1000
interrupts() {
	awk '/virtio/ { for (i = 2; i <= 5; i++) sum += $i } END { print sum + 0 }' /proc/interrupts
}
# Each request's answer is an interrupt, the late one's too. On a starved machine a few may come in time first.
seen=$(interrupts)
insmod /modules/flusher.ko threads=2
wait_for "a flush to time out" at_least 1 counter timeouts
requests=$(counter host_flushes) done=$(flusher done)
wait_for "the late answer" at_least $((seen + requests)) interrupts
expect state broken "$(counter state)"
expect "host flushes" "$requests" "$(counter host_flushes)"
expect messages 1 "$(logged 'broken:')"
expect "flushes that returned 0" "$done" "$(flusher done)"
measure host_flushes "$requests"
rmmod flusher || fail "a thread hangs"
unbind
