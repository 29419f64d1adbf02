# SPDX-License-Identifier: GPL-2.0-only
# A device with a region that can't be, with none where it offers one, or of before virtio 1: the probe
# refuses it and says what is wrong, and the same device without the fault works.
load_base
insmod /modules/virtio_pmem_rs.ko fake_size=0 || fail "cannot load the driver"
DEVICE=virtio0

# refused START SIZE TEXT: the log has it, and nothing is bound
refused() {
	expect "messages '$3'" 1 "$(logged "region of $2 bytes at $1: $3")"
	[ ! -e $BUS/$DEVICE ] || fail "a bad region was taken: $3"
	[ ! -b /dev/pmem0 ] || fail "there is a pmem device: $3"
}

# offer START SIZE
offer() {
	echo "$1" >$FAULTS/fake_start
	echo "$2" >$FAULTS/fake_size
	echo $DEVICE >$BUS/bind 2>/dev/null
}

refused "0x[0-9a-f]*" 0x0 "it is empty"
offer 0x100000200 0x20000000
refused 0x100000200 0x20000000 "start and size must be multiples of the page size"
offer 0x100000000 0x1fffffff
refused 0x100000000 0x1fffffff "start and size must be multiples of the page size"
offer 0xfffffffffffff000 0x2000
refused 0xfffffffffffff000 0x2000 "it reaches beyond the end of the address space"
offer 0xffffffffffffffff 0xffffffffffffffff
bound
unbind
# fake_features OFFERED MISSING
fake_features() {
	echo "$1" >$FAULTS/fake_offered
	echo "$2" >$FAULTS/fake_missing
	echo $DEVICE >$BUS/bind 2>/dev/null
}

# turned_away TEXT
turned_away() {
	expect "messages '$1'" 1 "$(logged "$1")"
	[ ! -e $BUS/$DEVICE ] || fail "the device was taken: $1"
}

# VIRTIO_PMEM_F_SHMEM_REGION is bit 0, VIRTIO_F_VERSION_1 bit 32.
fake_features 0 -1
turned_away "offers SHMEM_REGION but has no shared memory region 0"
fake_features -1 32
turned_away "does not offer VERSION_1"
echo -1 >$FAULTS/fake_missing
# Nothing is faked any more.
offer 0xffffffffffffffff 0xffffffffffffffff
bound
expect state live "$(counter state)"
filesystem ext4 "-F -b 4096"
