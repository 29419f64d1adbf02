# SPDX-License-Identifier: GPL-2.0-only
# FUA writes: on a kernel that lets the driver keep the bio they are ended from the completion.
load_driver
if [ "$DRIVER" = rust ]; then
	echo 'r64:kept vpr_flush result=$retval:s32' >/sys/kernel/tracing/kprobe_events || fail "no kprobes"
	echo 'result == 1' >/sys/kernel/tracing/events/kprobes/kept/filter || fail "no filter"
	echo 1 >/sys/kernel/tracing/events/kprobes/kept/enable
fi
insmod /modules/flusher.ko threads=2 fua_threads=14 fua_sector=2048
wait_for "500 flushes" at_least 500 flusher done
expect errors 0 "$(failed)"
rmmod flusher
[ "$DRIVER" = rust ] || skip "the kernel's driver has no counters"
echo 0 >/sys/kernel/tracing/events/kprobes/kept/enable
# NVDIMM_FLUSH_ASYNC came after 6.12: before it, a provider can't keep a bio.
case $(uname -r) in
6.*) ;;
*) grep -q 'kept:.*result=1$' /sys/kernel/tracing/trace || fail "no bio was kept" ;;
esac
measure flushes "$(counter flushes)"
measure host_flushes "$(counter host_flushes)"
at_least 500 counter flushes || fail "FUA did not flush"
[ $(($(counter host_flushes) * 5)) -le "$(counter flushes)" ] || fail "FUA writes are not coalesced"
