# SPDX-License-Identifier: GPL-2.0-only
# An answer whose interrupt is lost: the watchdog finds it, and everything goes on without an error.
load_driver
insmod /modules/flusher.ko threads=6 fua_threads=2 fua_sector=2048
wait_for "50 flushes" at_least 50 flusher done
before=$(counter rescued)
echo 1 >$FAULTS/drop_interrupt
wait_for "the watchdog to find the answer" at_least $((before + 1)) counter rescued
done=$(flusher done)
wait_for "flushes to go on" at_least $((done + 50)) flusher done
expect errors 0 "$(failed)"
expect state live "$(counter state)"
expect "messages about a broken device" 0 "$(logged 'broken:')"
measure rescued "$(counter rescued)"
measure longest_us "$(flusher longest_us)"
# Answers whose interrupts came are not counted.
[ "$(counter rescued)" -le 3 ] || fail "$(counter rescued) answers count as rescued"
rmmod flusher || fail "a thread hangs"
