# SPDX-License-Identifier: GPL-2.0-only
# What the driver is for: filesystems with DAX on the device, without an error.
load_driver
node=$(cat /sys/bus/nd/devices/region0/target_node)
[ "$node" -ge 0 ] || fail "the memory has no node: $node"
filesystem ext4 "-F -b 4096"
wipefs -a /dev/pmem0 >/dev/null || fail wipefs
filesystem xfs "-f -m reflink=0"
if [ "$DRIVER" = rust ]; then
	expect state live "$(counter state)"
	expect errors 0 "$(counter errors)"
	expect "in flight" 0 "$(counter in_flight)"
	at_least 10 counter flushes || fail "fsyncs did not flush"
	measure flushes "$(counter flushes)"
	measure host_flushes "$(counter host_flushes)"
fi
