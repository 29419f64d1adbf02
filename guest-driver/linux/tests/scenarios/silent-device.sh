# SPDX-License-Identifier: GPL-2.0-only
# host flush: 20 ms
# An answer that never comes: -ETIMEDOUT for those who waited for it, then -EIO.
load_driver flush_timeout_ms=2000
insmod /modules/flusher.ko threads=8 fua_threads=4 fua_sector=2048
wait_for "100 flushes" at_least 100 flusher done
echo 1 >$FAULTS/drop_completion
wait_for "flushes to fail" at_least 64 flusher eio
at_least 1 flusher etimedout || fail "nobody got -ETIMEDOUT"
expect state broken "$(counter state)"
expect timeouts 1 "$(counter timeouts)"
expect messages 1 "$(logged 'did not answer')"
echo "NOTE longest flush $(flusher longest_us) us"
at_least 2000000 flusher longest_us || fail "gave up before the time"
[ "$(flusher longest_us)" -lt 3500000 ] || fail "gave up too late"
rmmod flusher || fail "a thread hangs"
echo "$DEVICE" >$BUS/unbind
echo "$DEVICE" >$BUS/bind
wait_for pmem [ -b /dev/pmem0 ]
filesystem ext4 "-F -b 4096"
