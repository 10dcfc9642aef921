//! How many descriptors and processors this process may use.

use std::io;

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

/// `RLIMIT_NOFILE`, soft and hard; `None` is without a limit.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct DescriptorLimit {
    /// What holds now.
    pub soft: Option<u64>,
    /// How far a process without privileges may raise it.
    pub hard: Option<u64>,
}

/// The limit in force.
pub fn descriptor_limit() -> DescriptorLimit {
    let limit = getrlimit(Resource::Nofile);
    DescriptorLimit { soft: limit.current, hard: limit.maximum }
}

/// Raises the soft limit to the hard one and returns what holds then.
///
/// # Errors
/// The kernel's.
pub fn raise_descriptor_limit() -> io::Result<DescriptorLimit> {
    let limit = getrlimit(Resource::Nofile);
    setrlimit(Resource::Nofile, Rlimit { current: limit.maximum, maximum: limit.maximum })?;
    Ok(descriptor_limit())
}

/// Sets both limits (`worker_rlimit_nofile`).
///
/// # Errors
/// `EPERM` above the hard limit without root.
pub fn set_descriptor_limit(count: u64) -> io::Result<()> {
    Ok(setrlimit(Resource::Nofile, Rlimit { current: Some(count), maximum: Some(count) })?)
}

/// Sets both limits on the size of a core dump, in bytes (`worker_rlimit_core`).
///
/// # Errors
/// `EPERM` above the hard limit without root.
pub fn set_core_limit(bytes: u64) -> io::Result<()> {
    Ok(setrlimit(Resource::Core, Rlimit { current: Some(bytes), maximum: Some(bytes) })?)
}

/// Grows the kernel's descriptor table to hold `count` descriptors, at most the soft limit, and returns the size asked
/// for. To be called before the first thread: once threads share the table, growing it means waiting for every
/// processor (an RCU grace period, milliseconds), and it doubles under load.
///
/// # Errors
/// `ENOMEM`; the table then stays as it is.
pub fn grow_descriptor_table(count: u64) -> io::Result<u64> {
    let count = count.min(descriptor_limit().soft.unwrap_or(count)).min(i32::MAX as u64);
    let any = rustix::event::eventfd(0, rustix::event::EventfdFlags::CLOEXEC)?;
    if let Some(last) = count.checked_sub(1) {
        drop(rustix::io::fcntl_dupfd_cloexec(&any, last as i32)?);
    }
    Ok(count)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_table_grows_within_the_limit() {
        let soft = descriptor_limit().soft.unwrap_or(u64::MAX);
        assert_eq!(grow_descriptor_table(2_000).unwrap(), soft.min(2_000));
        assert_eq!(grow_descriptor_table(0).unwrap(), 0);
        let raised = raise_descriptor_limit().unwrap();
        assert_eq!(raised.soft, raised.hard);
    }
}
