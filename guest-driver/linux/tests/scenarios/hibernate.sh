# SPDX-License-Identifier: GPL-2.0-only
# Hibernation and back (test_resume: the image is written, then loaded, without a power off), with
# flushes in flight and parked, and with the image on a device of the same driver: nobody sees an error.
load_driver
wait_for "the second pmem" [ -b /dev/pmem1 ]
mkswap /dev/pmem1 >/dev/null && swapon /dev/pmem1 || fail "no swap"
cat /sys/class/block/pmem1/dev >/sys/power/resume || fail "no place for the image"
echo test_resume >/sys/power/disk || fail "no hibernation"
insmod /modules/flusher.ko threads=6 fua_threads=2 fua_sector=2048
wait_for "20 flushes" at_least 20 flusher done
round=0
while [ $round -lt "${ROUNDS:-5}" ]; do
	round=$((round + 1))
	done=$(flusher done)
	echo disk >/sys/power/state || fail "hibernation $round failed"
	wait_for "flushes after resume $round" at_least $((done + 20)) flusher done
done
errors=$(failed)
measure flushes "$(flusher done)"
measure flushes_failed "$errors"
expect "flushes that failed" 0 "$errors"
if [ "$DRIVER" = rust ]; then
	# The memory is that of the image, so the freezes for the images are all that is counted.
	for name in freezes freezes_in_flight freezes_parked; do
		measure $name "$(counter $name)"
	done
	at_least 1 counter freezes_in_flight || fail "no flush was in flight at a freeze"
	at_least 1 counter freezes_parked || fail "no flush was parked at a thaw"
	expect state live "$(counter state)"
	expect "messages about a broken device" 0 "$(logged 'broken:')"
fi
rmmod flusher || fail "a thread hangs"
filesystem ext4 "-F -b 4096"
