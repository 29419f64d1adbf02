# SPDX-License-Identifier: GPL-2.0-only
# Unbind and bind under load: no hang, and the last flush, which unregistering makes, succeeds.
load_driver
echo 'r64:flushed '$CALLBACK' result=$retval:s32' >/sys/kernel/tracing/kprobe_events || fail "no kprobes"
if [ "$DRIVER" = rust ]; then
	# A bio that was kept has its result from here.
	echo 'p:ended vpr_bio_end error=$arg2:s32' >>/sys/kernel/tracing/kprobe_events || fail "no kprobes"
	echo 'error != 0' >/sys/kernel/tracing/events/kprobes/ended/filter || fail "no filter"
fi
echo 1 >/sys/kernel/tracing/events/kprobes/enable
round=0
while [ $round -lt "${ROUNDS:-20}" ]; do
	round=$((round + 1))
	insmod /modules/flusher.ko threads=8 fua_threads=2 fua_sector=2048 || fail "no device in round $round"
	wait_for "50 flushes" at_least 50 flusher done
	echo >/sys/kernel/tracing/trace
	# By its number: the trace does not know the name of each process.
	sh -c 'exec 2>/dev/null; echo $$ >/tmp/unbinder; echo '"$DEVICE >$BUS/unbind"
	grep -q -e "-$(cat /tmp/unbinder) .*flushed:" /sys/kernel/tracing/trace || {
		grep -v -e '^#' -e flusher/ /sys/kernel/tracing/trace
		fail "unbind made no last flush"
	}
	grep 'flushed:' /sys/kernel/tracing/trace | grep -m1 -v 'result=[01]$' && fail "a flush failed in round $round"
	grep -m1 'ended:' /sys/kernel/tracing/trace && fail "a bio failed in round $round"
	rmmod flusher || fail "a thread hangs"
	echo "$DEVICE" >$BUS/bind
	bound
done
echo 0 >/sys/kernel/tracing/events/kprobes/enable
expect "messages about a broken device" 0 "$(logged 'broken:')"
filesystem ext4 "-F -b 4096"
