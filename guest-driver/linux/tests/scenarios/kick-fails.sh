# SPDX-License-Identifier: GPL-2.0-only
# A notification that fails: everyone gets -EIO at once, nobody hangs, the device can be bound anew.
load_driver
insmod /modules/flusher.ko threads=12 fua_threads=4 fua_sector=2048
wait_for "100 flushes" at_least 100 flusher done
echo 1 >$FAULTS/fail_kick
wait_for "a flush of each thread to fail" at_least 64 flusher eio
expect state broken "$(counter state)"
expect "in flight" 0 "$(counter in_flight)"
expect messages 1 "$(logged 'could not be notified')"
done=$(flusher done)
eio=$(flusher eio)
wait_for "flushes to fail fast" at_least $((eio + 64)) flusher eio
expect "flushes that succeeded since" "$done" "$(flusher done)"
rmmod flusher || fail "a thread hangs"
bind_anew
unbind
rmmod virtio_pmem_rs || fail "the driver can't be unloaded"
expect messages 1 "$(logged 'broken:')"
