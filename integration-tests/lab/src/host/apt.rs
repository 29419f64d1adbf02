// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause

//! A private view of the Debian archive: other suites than the machine's, the machine's mirror.
//!
//! apt does the fetching and the checking (the suite's signature, then each file's hash); only its
//! source list, state and cache are ours, so the machine's own apt is not touched.

use std::env;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail};

use crate::host::cache::Cache;
use crate::host::tool;

/// Signs every Debian suite; bookworm's holds trixie's key too.
const KEYRING: &str = "/usr/share/keyrings/debian-archive-keyring.gpg";

/// The lab's Debian.
pub const SUITE: &str = "trixie";

/// Where kernels newer than the suite's come from.
pub const BACKPORTS: &str = "trixie-backports";

/// apt with its own sources.
pub struct Apt {
    root: PathBuf,
}

impl Apt {
    /// Prepares the private directories and sources.
    pub fn open(cache: &Cache) -> Result<Self> {
        let root = cache.dir("apt")?;
        for dir in ["lists/partial", "archives/partial"] {
            fs::create_dir_all(root.join(dir))?;
        }
        fs::write(root.join("status"), "")?;
        Ok(Self { root })
    }

    /// Source lines for `suites`, for another tool's use.
    pub fn sources(&self, suites: &[&str]) -> Result<String> {
        Ok(sources(&mirror()?, suites))
    }

    /// Fetches the package lists.
    pub fn update(&self) -> Result<()> {
        // Only now: with everything in the cache no mirror is needed.
        fs::write(
            self.root.join("sources.list"),
            self.sources(&[SUITE, BACKPORTS])?,
        )?;
        tool::run(self.command("apt-get").arg("update"))
            .context("cannot fetch the Debian package lists")
    }

    /// The stanzas of all packages in the lists.
    pub fn packages(&self) -> Result<String> {
        tool::output(self.command("apt-cache").arg("dumpavail"))
    }

    /// Downloads exact versions (`name=version`) into `dir`.
    pub fn download(&self, packages: &[String], dir: &Path) -> Result<()> {
        tool::run(
            self.command("apt-get")
                .arg("download")
                .args(packages)
                .current_dir(dir),
        )
        .with_context(|| format!("cannot download {}", packages.join(" ")))
    }

    fn command(&self, program: &str) -> Command {
        let root = self.root.display();
        let mut command = Command::new(program);
        for option in [
            format!("Dir::Etc::sourcelist={root}/sources.list"),
            "Dir::Etc::sourceparts=-".into(),
            "Dir::Etc::preferencesparts=-".into(),
            format!("Dir::State::lists={root}/lists"),
            format!("Dir::State::status={root}/status"),
            format!("Dir::Cache={root}"),
            format!("Dir::Cache::archives={root}/archives"),
            "Acquire::Languages=none".into(),
            "Acquire::IndexTargets::deb::DEP-11::DefaultEnabled=false".into(),
            // The cache belongs to one user; apt's sandbox user could not write there.
            "APT::Sandbox::User=".into(),
        ] {
            command.arg("-o").arg(option);
        }
        command.env("LC_ALL", "C");
        command
    }
}

fn sources(mirror: &str, suites: &[&str]) -> String {
    suites
        .iter()
        .map(|suite| format!("deb [arch=amd64 signed-by={KEYRING}] {mirror} {suite} main\n"))
        .collect()
}

/// `DEBIAN_MIRROR`, or the archive the machine's own apt uses for its release.
fn mirror() -> Result<String> {
    if let Ok(mirror) = env::var("DEBIAN_MIRROR") {
        return check_mirror(&mirror);
    }
    let release = fs::read_to_string("/etc/os-release").unwrap_or_default();
    let targets = tool::output(Command::new("apt-get").args([
        "indextargets",
        "--format",
        "$(REPO_URI) $(RELEASE) $(COMPONENT)",
        "Created-By: Packages",
    ]))?;
    find_mirror(&release, &targets).context(
        "cannot tell a Debian mirror from this machine's apt configuration: \
         set DEBIAN_MIRROR to the URL of one",
    )
}

fn check_mirror(mirror: &str) -> Result<String> {
    let known = ["http://", "https://", "file:/", "mirror+"];
    if known.iter().any(|scheme| mirror.starts_with(scheme))
        && !mirror.contains(char::is_whitespace)
    {
        return Ok(mirror.to_owned());
    }
    bail!("DEBIAN_MIRROR={mirror:?}: wanted the URL of a Debian archive, like http://HOST/debian")
}

fn find_mirror(os_release: &str, targets: &str) -> Option<String> {
    let value = |name: &str| {
        os_release.lines().find_map(|line| {
            line.strip_prefix(name)?
                .strip_prefix('=')
                .map(|value| value.trim_matches('"'))
        })
    };
    // Another distribution's archive has no Debian suites in it.
    if value("ID")? != "debian" {
        return None;
    }
    // Rolling systems have no code name, or one of a release to come.
    let suites = [
        value("VERSION_CODENAME").unwrap_or("sid"),
        "sid",
        "unstable",
        "testing",
    ];
    suites.iter().find_map(|suite| {
        targets.lines().find_map(|line| {
            let mut words = line.split_whitespace();
            let uri = words.next()?;
            (words.next()? == *suite && words.next()? == "main").then(|| uri.to_owned())
        })
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const TARGETS: &str = "\
http://security.example/debian-security bookworm-security main
http://third.example/apt bookworm tools
http://mirror.example/debian/ bookworm-updates main
http://mirror.example/debian/ bookworm main
";

    #[test]
    fn the_mirror_is_the_one_of_the_machines_own_release() {
        let os = "ID=debian\nVERSION_CODENAME=bookworm\n";
        assert_eq!(
            find_mirror(os, TARGETS).as_deref(),
            Some("http://mirror.example/debian/")
        );
        assert_eq!(
            find_mirror("ID=ubuntu\nVERSION_CODENAME=bookworm\n", TARGETS),
            None
        );
        assert_eq!(
            find_mirror("ID=debian\nVERSION_CODENAME=trixie\n", TARGETS),
            None
        );
    }

    #[test]
    fn a_mirror_that_is_no_url_is_refused_by_name() {
        let error = check_mirror("mirror.example").unwrap_err().to_string();
        assert!(
            error.contains("DEBIAN_MIRROR=\"mirror.example\""),
            "{error}"
        );
        check_mirror("http://mirror.example/debian").unwrap();
    }

    #[test]
    fn every_source_is_bound_to_debians_key() {
        let text = sources("http://m.example/debian", &[SUITE, BACKPORTS]);
        assert_eq!(text.lines().count(), 2);
        assert!(
            text.lines()
                .all(|line| line.contains("signed-by=/usr/share/keyrings/"))
        );
    }
}
