# SPDX-License-Identifier: GPL-2.0-only
# FUA writes: on a kernel that lets the driver keep the bio they are ended from the completion.
load_driver
insmod /modules/flusher.ko threads=2 fua_threads=14 fua_sector=2048
wait_for "500 flushes" at_least 500 flusher done
expect errors 0 "$(failed)"
rmmod flusher
[ "$DRIVER" = rust ] || skip "the kernel's driver has no counters"
measure flushes "$(counter flushes)"
measure host_flushes "$(counter host_flushes)"
at_least 500 counter flushes || fail "FUA did not flush"
[ $(($(counter host_flushes) * 5)) -le "$(counter flushes)" ] || fail "FUA writes are not coalesced"
