# SPDX-License-Identifier: GPL-2.0-only
# Suspend to RAM, five times, with flushes in flight and parked: nobody sees an error.
load_driver
insmod /modules/flusher.ko threads=6 fua_threads=2 fua_sector=2048
wait_for "20 flushes" at_least 20 flusher done
echo deep >/sys/power/mem_sleep || fail "no S3"
round=0
while [ $round -lt "${ROUNDS:-5}" ]; do
	round=$((round + 1))
	echo 0 >/sys/class/rtc/rtc0/wakealarm
	echo +3 >/sys/class/rtc/rtc0/wakealarm || fail "no alarm"
	done=$(flusher done)
	echo mem >/sys/power/state || fail "suspend $round failed"
	wait_for "flushes after resume $round" at_least $((done + 20)) flusher done
done
errors=$(failed)
measure flushes "$(flusher done)"
measure flushes_failed "$errors"
expect "flushes that failed" 0 "$errors"
if [ "$DRIVER" = rust ]; then
	for name in freezes freezes_in_flight freezes_parked; do
		measure $name "$(counter $name)"
	done
	expect freezes "${ROUNDS:-5}" "$(counter freezes)"
	at_least 1 counter freezes_in_flight || fail "no flush was in flight at a freeze"
	at_least 1 counter freezes_parked || fail "no flush was parked at a thaw"
	expect state live "$(counter state)"
	expect "messages about a broken device" 0 "$(logged 'broken:')"
fi
rmmod flusher || fail "a thread hangs"
filesystem ext4 "-F -b 4096"
