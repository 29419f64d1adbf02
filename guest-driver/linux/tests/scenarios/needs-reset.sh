# SPDX-License-Identifier: GPL-2.0-only
# QEMU sets NEEDS_RESET over a request without room for a status, and answers nothing any more.
load_driver
insmod /modules/flusher.ko threads=12 fua_threads=4 fua_sector=2048
wait_for "100 flushes" at_least 100 flusher done
begin=$(date +%s)
echo 1 >$FAULTS/bad_request
wait_for "a flush of each thread to fail" at_least 64 flusher eio
expect state broken "$(counter state)"
expect messages 1 "$(logged 'needs a reset')"
rmmod flusher || fail "a thread hangs"
measure all_failed_within_s $(($(date +%s) - begin))
bind_anew
