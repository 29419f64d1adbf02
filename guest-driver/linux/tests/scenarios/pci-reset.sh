# SPDX-License-Identifier: GPL-2.0-only
# A function-level reset of the transport, five times, with flushes in flight and behind them: what is in
# flight is waited for, what comes later goes out after the reset, and nobody sees an error. A kernel that tells
# no driver of it (6.12) leaves a device that does nothing any more: the driver sees that, and all get an error.
load_driver
grep -q virtio_device_reset_prepare /proc/kallsyms && told=1 || told=0
[ "$DRIVER" = rust ] || [ $told = 1 ] || skip "this kernel tells no virtio driver of a reset"
pci=$(readlink -f /sys/bus/virtio/devices/$DEVICE/..)
echo flr >"$pci/reset_method" || fail "no function-level reset: $(cat "$pci/reset_method")"
insmod /modules/flusher.ko threads=6 fua_threads=2 fua_sector=2048
wait_for "20 flushes" at_least 20 flusher done
if [ $told = 0 ]; then
	echo 1 >"$pci/reset" || fail "the reset failed"
	wait_for "a flush of each thread to fail" at_least 64 failed
	expect state broken "$(counter state)"
	expect messages 1 "$(logged "broken: the device was pulled out, or reset behind the driver's back")"
	measure longest_us "$(flusher longest_us)"
	rmmod flusher || fail "a thread hangs"
	bind_anew
	return
fi
round=0
while [ $round -lt "${ROUNDS:-5}" ]; do
	round=$((round + 1))
	done=$(flusher done)
	echo 1 >"$pci/reset" || fail "reset $round failed"
	wait_for "flushes after reset $round" at_least $((done + 20)) flusher done
done
expect errors 0 "$(failed)"
if [ "$DRIVER" = rust ]; then
	expect resets "${ROUNDS:-5}" "$(counter resets)"
	expect state live "$(counter state)"
fi
expect "messages about a broken device" 0 "$(logged 'broken:')"
measure flushes "$(flusher done)"
rmmod flusher || fail "a thread hangs"
filesystem ext4 "-F -b 4096"
