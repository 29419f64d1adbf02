// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause

//! Checks, applies, reverts and records the cloud-hypervisor patch series.
//!
//! A series holds only lines that were written for it: whole new files, and
//! edits that name their pre-image by its git blob id and say which of its line
//! ranges become which new lines. `hypervisor-patch/series/README.md` describes
//! the format.
//!
//! The way of a file through this crate: [`store`] reads the series from its
//! folder into a [`series::Series`]; [`plan`] finds the base that a [`tree`] is
//! and works out what every step makes of every file; [`transaction`] puts that
//! into the tree or takes it out again, all or nothing. [`record`] goes the other
//! way, from git commits to a series.

pub mod blob;
pub mod commands;
pub mod commit;
pub mod copied;
pub mod edit;
pub mod error;
pub mod git;
pub mod journal;
pub mod lines;
pub mod lock;
pub mod manifest;
pub mod path;
pub mod plan;
pub mod record;
pub mod series;
pub mod store;
pub mod transaction;
pub mod tree;

pub use error::Error;
