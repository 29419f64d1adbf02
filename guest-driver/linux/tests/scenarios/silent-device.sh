# SPDX-License-Identifier: GPL-2.0-only
# An answer that never comes: -ETIMEDOUT for those who waited for it, then -EIO.
load_driver flush_timeout_ms=2000
insmod /modules/flusher.ko threads=8 fua_threads=4 fua_sector=2048
echo 'r64:flushed vpr_flush result=$retval:s32' >/sys/kernel/tracing/kprobe_events || fail "no kprobes"
echo 1 >/sys/kernel/tracing/events/kprobes/flushed/enable
wait_for "100 flushes" at_least 100 flusher done
echo 1 >$FAULTS/drop_completion
wait_for "flushes to fail" at_least 64 flusher eio
echo 0 >/sys/kernel/tracing/events/kprobes/flushed/enable
# Between the driver and the flusher most kernels make -EIO of it.
at_least 1 flusher etimedout || grep -q 'result=-110' /sys/kernel/tracing/trace || fail "nobody got -ETIMEDOUT"
expect state broken "$(counter state)"
expect timeouts 1 "$(counter timeouts)"
expect messages 1 "$(logged 'did not answer')"
measure longest_us "$(flusher longest_us)"
at_least 2000000 flusher longest_us || fail "gave up before the time"
[ "$(flusher longest_us)" -lt $((3500000 * SLOWNESS)) ] || fail "gave up too late"
rmmod flusher || fail "a thread hangs"
bind_anew
