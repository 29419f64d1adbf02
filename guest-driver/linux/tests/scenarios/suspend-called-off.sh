# SPDX-License-Identifier: GPL-2.0-only
# A freeze that can't wait for the host: the suspend is called off, and no flush sees an error.
load_driver freeze_timeout_ms=500
insmod /modules/flusher.ko threads=6
wait_for "a flush" at_least 1 flusher done
echo deep >/sys/power/mem_sleep || fail "no S3"
echo 0 >/sys/class/rtc/rtc0/wakealarm
echo +20 >/sys/class/rtc/rtc0/wakealarm
wait_for "a flush in flight" at_least 1 counter in_flight
echo mem >/sys/power/state 2>/tmp/error && fail "the system suspended with a flush in flight"
grep -qi busy /tmp/error || fail "suspend failed with $(cat /tmp/error)"
expect state live "$(counter state)"
expect "freezes called off" 1 "$(counter freezes_called_off)"
expect messages 1 "$(logged 'suspend called off')"
done=$(flusher done)
wait_for "flushes to go on" at_least $((done + 6)) flusher done
expect errors 0 "$(failed)"
rmmod flusher || fail "a thread hangs"
