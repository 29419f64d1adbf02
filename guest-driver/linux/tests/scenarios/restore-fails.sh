# SPDX-License-Identifier: GPL-2.0-only
# A resume that does not reach the driver, as when the bus or the virtio core can't bring the device so far:
# flushes fail instead of sleeping for ever; the next suspend brings the device back, and so does a bind.
load_driver
insmod /modules/flusher.ko threads=6 fua_threads=2 fua_sector=2048
wait_for "20 flushes" at_least 20 flusher done
echo deep >/sys/power/mem_sleep || fail "no S3"

# sleep_once: to S3 and back
sleep_once() {
	echo 0 >/sys/class/rtc/rtc0/wakealarm
	echo +3 >/sys/class/rtc/rtc0/wakealarm || fail "no alarm"
	echo mem >/sys/power/state || fail "the suspend failed"
}

# lose_restore COUNT: a suspend without a restore, the COUNTth
lose_restore() {
	before=$(failed)
	echo 1 >$FAULTS/skip_restore
	sleep_once
	expect "restores to be lost" 0 "$(cat $FAULTS/skip_restore)"
	wait_for "a flush of each thread to fail" at_least $((before + 8)) failed
	expect state broken "$(counter state)"
	expect "messages" "$1" "$(logged 'broken: the device did not come back from a suspend')"
}

lose_restore 1
done=$(flusher done)
sleep_once
wait_for "flushes after the next suspend" at_least $((done + 20)) flusher done
expect state live "$(counter state)"
status=$(cat /sys/bus/virtio/devices/$DEVICE/status)
expect "status after the next suspend" 0x0000000f "$status"

lose_restore 2
rmmod flusher || fail "a thread hangs"
bind_anew
expect "messages about a broken device" 2 "$(logged 'broken:')"
expect "suspends called off" 0 "$(logged 'called off')"
