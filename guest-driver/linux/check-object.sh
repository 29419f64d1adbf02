#!/bin/sh
# SPDX-License-Identifier: GPL-2.0-only
#
# check-object.sh NM OBJDUMP OBJECT
#
# The gate on a Rust object: it may leave undefined only what the kernel or helpers.c has. Anything
# of core's would be a call that was not inlined, which is a panic path as good as always
# (core::panicking: a bounds check, a division, formatting). And it must not touch vector registers,
# which belong to the user's program while the kernel runs.
set -eu

allowed='^(vpr_[a-z_]+|_RN.*10flush_core.*|mem(cpy|move|set|cmp)|__x86_return_thunk|__x86_indirect_thunk_[a-z0-9]+|__asan_.*)$'
strange=$($1 --undefined-only --format=posix "$3" | cut -d' ' -f1 | grep -Ev "$allowed" || true)
if [ -n "$strange" ]; then
	printf '%s: undefined symbols that no kernel has:\n%s\n' "$3" "$strange" >&2
	exit 1
fi
if $2 --disassemble --no-show-raw-insn "$3" |
	grep -m1 -E '%([xyz]mm|mm)[0-9]|%st\b|^ +[0-9a-f]+:[[:space:]]+f[a-z]+' >&2; then
	printf '%s: uses vector or floating-point registers\n' "$3" >&2
	exit 1
fi
