# SPDX-License-Identifier: GPL-2.0-only
# The registers of a PCI function that is not there any more read as ones: all who wait get an error, and its removal
# does not wait for a reset. Another function, whose memory is all ones and read-only, takes their place.
load_driver
pci=$(readlink -f /sys/bus/virtio/devices/$DEVICE/..)
for ones in /sys/bus/pci/devices/*; do
	[ "$(cat "$ones/device")" != 0x1110 ] || break
done
# config DEVICE OFFSET BYTES: writes to the configuration space
config() {
	printf "$3" | dd of="$1/config" bs=1 seek="$2" conv=notrunc 2>/dev/null || fail "no write to $1/config"
}
# bar NUMBER: the bytes of a BAR of the device's
bar() {
	dd if="$pci/config" bs=1 skip=$((16 + 4 * $1)) count=8 2>/dev/null | od -An -v -tx1 | sed 's/ /\\x/g'
}
insmod /modules/flusher.ko threads=6 fua_threads=2 fua_sector=2048
wait_for "20 flushes" at_least 20 flusher done
# BAR 4 has the registers; BAR 2 of the other is the memory. 4: the command register, its bit 1: memory.
config "$ones" 24 "$(bar 4)"
config "$pci" 4 '\x00\x00'
config "$ones" 4 '\x02\x00'
wait_for "a flush of each thread to fail" at_least 8 failed
expect state broken "$(counter state)"
expect messages 1 "$(logged 'broken:')"
expect messages 1 "$(logged 'was pulled out')"
rmmod flusher || fail "a thread hangs"
echo 1 >"$pci/remove"
[ ! -e /dev/pmem0 ] || fail "the memory is still there"
# The virtio core wants to read a status of 0 after a removal.
expect warnings 1 "$(logged WARNING:)"
expect "warnings of the virtio core" 1 "$(logged 'WARNING:.*virtio_dev_remove')"
dmesg -c >/dev/null
