// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause

//! The command line, in cloud-hypervisor's syntax.

use std::ffi::OsString;
use std::os::fd::RawFd;
use std::path::PathBuf;

use clap::error::ErrorKind;
use clap::{ArgAction, Parser};
use thiserror::Error;

use super::options::Options;
use super::{
    ConfigError, ConsoleConfig, CpusConfig, MemoryConfig, PayloadConfig, PmemConfig, RestoreConfig,
    SerialConfig, VmConfig,
};

/// The flags as clap sees them: their values are taken apart by the types they make.
#[derive(Debug, Parser)]
#[command(
    name = "vmm",
    about = "Launch a small KVM virtual machine.",
    disable_version_flag = true
)]
struct Flags {
    #[arg(
        long,
        help = "HTTP API socket (UNIX domain socket): <path> or path=<path>"
    )]
    api_socket: Option<String>,
    #[arg(long, help = "Kernel command line")]
    cmdline: Option<String>,
    #[arg(long, help = ConsoleConfig::SYNTAX)]
    console: Option<String>,
    #[arg(long, help = CpusConfig::SYNTAX)]
    cpus: Option<String>,
    #[arg(long, help = "Report events to \"path=<path>\" or \"fd=<fd>\"")]
    event_monitor: Option<String>,
    #[arg(long, help = "Path to initramfs image")]
    initramfs: Option<PathBuf>,
    #[arg(long, help = "Path to kernel to load (bzImage)")]
    kernel: Option<PathBuf>,
    #[arg(long, help = "Log file. Standard error is used if not specified")]
    log_file: Option<PathBuf>,
    #[arg(long, help = MemoryConfig::SYNTAX)]
    memory: Option<String>,
    #[arg(long, num_args = 1.., action = ArgAction::Append, help = PmemConfig::SYNTAX)]
    pmem: Vec<String>,
    #[arg(long, help = RestoreConfig::SYNTAX)]
    restore: Option<String>,
    #[arg(long, help = SerialConfig::SYNTAX)]
    serial: Option<String>,
    #[arg(short, action = ArgAction::Count, help = "Sets the level of debugging output")]
    v: u8,
    #[arg(short = 'V', long, help = "Print version")]
    version: bool,
}

/// A wrong command line: one line, with what would be right.
#[derive(Debug, Error)]
#[error("{0}")]
pub struct CliError(String);

impl From<ConfigError> for CliError {
    fn from(error: ConfigError) -> Self {
        Self(error.to_string())
    }
}

/// What a command line asks for.
#[derive(Debug, PartialEq, Eq)]
pub enum Cli {
    /// Print this and exit: help or version.
    Print(String),
    /// Run.
    Run(VmmOptions),
}

/// Where events go.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Endpoint {
    /// A file, made or emptied.
    Path(PathBuf),
    /// A file descriptor that the process was started with.
    Fd(RawFd),
}

/// Where log lines go.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum LogTarget {
    /// Standard error.
    Stderr,
    /// A file, made or emptied.
    File(PathBuf),
}

/// What to run.
#[derive(Debug, PartialEq, Eq)]
pub struct VmmOptions {
    /// The API's socket; without it there is no API.
    pub api_socket: Option<PathBuf>,
    /// Where events go; without it they are only logged.
    pub event_monitor: Option<Endpoint>,
    /// Where log lines go.
    pub log: LogTarget,
    /// How many `-v` were given.
    pub verbosity: u8,
    /// What to do first.
    pub action: Action,
}

/// What a process does first.
#[derive(Debug, PartialEq, Eq)]
pub enum Action {
    /// Waits for `vm.restore`.
    Wait,
    /// Boots this machine.
    Boot(Box<VmConfig>),
    /// Restores a snapshot.
    Restore(RestoreConfig),
}

/// Reads a command line, `args` with the program's name first.
///
/// # Errors
/// One line that names the option, the value and what would be right.
pub fn parse_args<I>(args: I) -> Result<Cli, CliError>
where
    I: IntoIterator<Item: Into<OsString> + Clone>,
{
    let flags = match Flags::try_parse_from(args) {
        Ok(flags) => flags,
        Err(error) if error.kind() == ErrorKind::DisplayHelp => {
            return Ok(Cli::Print(error.render().to_string()));
        }
        Err(error) => return Err(CliError(one_line(&error.render().to_string()))),
    };
    if flags.version {
        let mut text = format!("vmm {}\n", crate::BUILD_VERSION);
        if flags.v > 0 {
            text += &format!("Enabled features: {:?}\n", crate::FEATURES);
        }
        return Ok(Cli::Print(text));
    }
    Ok(Cli::Run(VmmOptions {
        api_socket: flags
            .api_socket
            .as_deref()
            .map(parse_api_socket)
            .transpose()?,
        event_monitor: flags
            .event_monitor
            .as_deref()
            .map(parse_event_monitor)
            .transpose()?,
        log: flags
            .log_file
            .clone()
            .map_or(LogTarget::Stderr, LogTarget::File),
        verbosity: flags.v,
        action: parse_action(&flags)?,
    }))
}

/// clap's message without its usage lines, as one line.
fn one_line(message: &str) -> String {
    let said = message
        .lines()
        .map(str::trim)
        .take_while(|line| !line.starts_with("Usage:") && !line.starts_with("For more"))
        .filter(|line| !line.is_empty())
        .collect::<Vec<_>>()
        .join("; ");
    said.strip_prefix("error: ").unwrap_or(&said).to_owned()
}

fn parse_api_socket(input: &str) -> Result<PathBuf, ConfigError> {
    match input.strip_prefix("path=").unwrap_or(input) {
        "" => Err(ConfigError {
            flag: "--api-socket",
            value: input.to_owned(),
            problem: "there is no path; give PATH or path=PATH".to_owned(),
        }),
        path => Ok(path.into()),
    }
}

fn parse_event_monitor(input: &str) -> Result<Endpoint, ConfigError> {
    let options = Options::parse("--event-monitor", input, &["path", "fd"])?;
    let fd = options.number("fd", 0, i32::MAX.cast_unsigned().into())?;
    match (options.get("path"), fd) {
        (Some(path), None) => Ok(Endpoint::Path(path.into())),
        // In range: checked above.
        (None, Some(fd)) => Ok(Endpoint::Fd(RawFd::try_from(fd).unwrap_or(RawFd::MAX))),
        _ => Err(options.error("give either path=PATH or fd=FD")),
    }
}

fn parse_action(flags: &Flags) -> Result<Action, CliError> {
    match (&flags.kernel, &flags.restore) {
        (Some(kernel), None) => {
            let config = parse_vm(flags, kernel.clone())?;
            Ok(Action::Boot(Box::new(config)))
        }
        (None, Some(restore)) => {
            refuse_vm_flags(
                flags,
                "a restored machine is as its snapshot's config.json says",
            )?;
            Ok(Action::Restore(RestoreConfig::parse(restore)?))
        }
        (Some(kernel), Some(restore)) => Err(CliError(format!(
            "--restore {restore}: excludes --kernel {}; give one of the two",
            kernel.display()
        ))),
        (None, None) => {
            refuse_vm_flags(
                flags,
                "there is no machine to give it to; add --kernel PATH",
            )?;
            if flags.api_socket.is_none() {
                return Err(CliError(
                    "there is nothing to do; give --kernel PATH, --restore \
                     source_url=file:///DIRECTORY or --api-socket PATH (--help shows all)"
                        .to_owned(),
                ));
            }
            Ok(Action::Wait)
        }
    }
}

/// Refuses the flags that describe a machine, where there is none to describe.
fn refuse_vm_flags(flags: &Flags, why: &str) -> Result<(), CliError> {
    let initramfs = flags
        .initramfs
        .as_ref()
        .map(|path| path.display().to_string());
    let given = [
        ("--cmdline", flags.cmdline.as_ref()),
        (ConsoleConfig::FLAG, flags.console.as_ref()),
        (CpusConfig::FLAG, flags.cpus.as_ref()),
        ("--initramfs", initramfs.as_ref()),
        (MemoryConfig::FLAG, flags.memory.as_ref()),
        (PmemConfig::FLAG, flags.pmem.first()),
        (SerialConfig::FLAG, flags.serial.as_ref()),
    ];
    for (flag, value) in given {
        if let Some(value) = value {
            return Err(CliError(format!("{flag} {value}: {why}")));
        }
    }
    Ok(())
}

fn parse_vm(flags: &Flags, kernel: PathBuf) -> Result<VmConfig, ConfigError> {
    fn or_default<T: Default>(
        flag: Option<&String>,
        parse: fn(&str) -> Result<T, ConfigError>,
    ) -> Result<T, ConfigError> {
        flag.map_or_else(|| Ok(T::default()), |text| parse(text))
    }

    let config = VmConfig {
        cpus: or_default(flags.cpus.as_ref(), CpusConfig::parse)?,
        memory: or_default(flags.memory.as_ref(), MemoryConfig::parse)?,
        payload: PayloadConfig {
            kernel,
            cmdline: flags.cmdline.clone(),
            initramfs: flags.initramfs.clone(),
        },
        pmem: flags
            .pmem
            .iter()
            .enumerate()
            .map(|(index, text)| PmemConfig::parse(text, index))
            .collect::<Result<_, _>>()?,
        serial: or_default(flags.serial.as_ref(), SerialConfig::parse)?,
        console: or_default(flags.console.as_ref(), ConsoleConfig::parse)?,
    };
    config.validate()?;
    Ok(config)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(line: &str) -> Result<Cli, CliError> {
        parse_args(["vmm"].into_iter().chain(line.split_whitespace()))
    }

    fn run(line: &str) -> VmmOptions {
        match parse(line).unwrap() {
            Cli::Run(options) => options,
            Cli::Print(text) => panic!("{line} printed {text}"),
        }
    }

    fn boot(line: &str) -> VmConfig {
        match run(line).action {
            Action::Boot(config) => *config,
            other => panic!("{line} gave {other:?}"),
        }
    }

    fn refused(line: &str) -> String {
        parse(line).unwrap_err().to_string()
    }

    #[test]
    fn a_full_command_line_makes_a_machine() {
        let options = run(
            "--kernel /k --initramfs /i --cmdline console=ttyS0 --cpus boot=2 \
             --memory size=256M --serial tty --console off --api-socket /s \
             --event-monitor path=/e --log-file /l -vv",
        );
        assert_eq!(options.api_socket, Some("/s".into()));
        assert_eq!(options.event_monitor, Some(Endpoint::Path("/e".into())));
        assert_eq!(options.log, LogTarget::File("/l".into()));
        assert_eq!(options.verbosity, 2);
        let Action::Boot(config) = options.action else {
            panic!("no boot");
        };
        assert_eq!(config.cpus.boot_vcpus, 2);
        assert_eq!(config.memory.size, 256 << 20);
        assert_eq!(config.payload.cmdline.as_deref(), Some("console=ttyS0"));
        assert_eq!(config.payload.initramfs, Some("/i".into()));
    }

    #[test]
    fn a_kernel_is_enough() {
        let config = boot("--kernel /k");
        assert_eq!(config.cpus, CpusConfig::default());
        assert_eq!(config.memory.size, 512 << 20);
        assert_eq!(config.serial, SerialConfig::default());
        assert!(config.pmem.is_empty());
    }

    #[test]
    fn pmem_takes_several_values_and_repeats() {
        let config = boot("--kernel /k --pmem file=/a file=/b,id=b --pmem file=/c --cpus boot=1");
        let ids = config.pmem.iter().map(|pmem| pmem.id.as_str());
        assert_eq!(ids.collect::<Vec<_>>(), ["_pmem0", "b", "_pmem2"]);
        assert_eq!(
            refused("--kernel /k --pmem file=/a,id=x file=/b,id=x"),
            "--pmem id=x: two devices have this id; give each its own"
        );
    }

    #[test]
    fn restore_excludes_what_describes_a_machine() {
        let Action::Restore(restore) = run("--restore source_url=file:///s").action else {
            panic!("no restore");
        };
        assert_eq!(restore.source_url, "file:///s");
        assert_eq!(
            refused("--restore source_url=file:///s --kernel /k"),
            "--restore source_url=file:///s: excludes --kernel /k; give one of the two"
        );
        for flag in [
            "--memory size=1G",
            "--pmem file=/p",
            "--cpus boot=1",
            "--cmdline a",
        ] {
            assert_eq!(
                refused(&format!("--restore source_url=file:///s {flag}")),
                format!("{flag}: a restored machine is as its snapshot's config.json says")
            );
            assert_eq!(
                refused(flag),
                format!("{flag}: there is no machine to give it to; add --kernel PATH")
            );
        }
    }

    #[test]
    fn an_api_socket_alone_waits() {
        for line in ["--api-socket /s", "--api-socket path=/s"] {
            let options = run(line);
            assert_eq!(options.api_socket, Some("/s".into()));
            assert_eq!(options.action, Action::Wait);
        }
        assert!(refused("--api-socket path=").ends_with("give PATH or path=PATH"));
        assert!(refused("").starts_with("there is nothing to do; give --kernel PATH"));
    }

    #[test]
    fn an_event_monitor_is_a_path_or_a_descriptor() {
        let fd = run("--api-socket /s --event-monitor fd=5");
        assert_eq!(fd.event_monitor, Some(Endpoint::Fd(5)));
        for wrong in ["fd=5,path=/e", "fd=-1", "fd=x", "/e", "fd=9999999999"] {
            let error = refused(&format!("--api-socket /s --event-monitor {wrong}"));
            assert!(
                error.starts_with(&format!("--event-monitor {wrong}: ")),
                "{error}"
            );
        }
    }

    #[test]
    fn an_unknown_flag_is_one_line() {
        assert_eq!(
            refused("--kernal /k"),
            "unexpected argument '--kernal' found; tip: a similar argument exists: '--kernel'"
        );
        assert_eq!(
            refused("--kernel"),
            "a value is required for '--kernel <KERNEL>' but none was supplied"
        );
    }

    #[test]
    fn version_and_help_are_printed() {
        let Cli::Print(version) = parse("--version").unwrap() else {
            panic!("no text");
        };
        assert_eq!(version, format!("vmm {}\n", crate::BUILD_VERSION));
        let Cli::Print(help) = parse("--help").unwrap() else {
            panic!("no text");
        };
        for flag in ["--pmem", "--restore", "drain_timeout", "--event-monitor"] {
            assert!(help.contains(flag), "{flag}");
        }
    }
}
