// SPDX-License-Identifier: GPL-2.0-only

//! Nothing, under the name of a crate that rustc wants to find beside `core`. What it would
//! hold (memcpy and the like) the kernel has.
#![feature(compiler_builtins)]
#![allow(internal_features)]
#![compiler_builtins]
#![no_builtins]
#![no_std]
