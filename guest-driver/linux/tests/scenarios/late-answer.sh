# SPDX-License-Identifier: GPL-2.0-only
# An answer that comes after its waiters have left: harmless.
load_driver flush_timeout_ms=1000
interrupts() {
	awk '/virtio/ { for (i = 2; i <= 5; i++) sum += $i } END { print sum + 0 }' /proc/interrupts
}
# The one request's answer is the only interrupt; on a slow machine it may be there at the next look.
seen=$(interrupts)
insmod /modules/flusher.ko threads=2
wait_for "a flush to time out" at_least 1 counter timeouts
wait_for "the late answer" at_least $((seen + 1)) interrupts
expect state broken "$(counter state)"
expect "host flushes" 1 "$(counter host_flushes)"
expect messages 1 "$(logged 'broken:')"
expect "flushes that returned 0" 0 "$(flusher done)"
rmmod flusher || fail "a thread hangs"
unbind
