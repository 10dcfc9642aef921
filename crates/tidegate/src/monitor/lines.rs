//! Lines of nginx's that scripts and people know, about signals and about who writes the log.

use sys::signals::Signal;

use crate::error_log::ErrorLog;

/// nginx's line about a signal.
pub fn signal_line(signal: Signal, pid: u32, action: &str) -> String {
    let (number, name) = (signal.as_raw(), signal_name(signal));
    match pid {
        0 => format!("signal {number} ({name}) received{action}"),
        pid => format!("signal {number} ({name}) received from {pid}{action}"),
    }
}

fn signal_name(signal: Signal) -> &'static str {
    match signal {
        Signal::HUP => "SIGHUP",
        Signal::USR1 => "SIGUSR1",
        Signal::WINCH => "SIGWINCH",
        Signal::TERM => "SIGTERM",
        Signal::QUIT => "SIGQUIT",
        Signal::USR2 => "SIGUSR2",
        Signal::INT => "SIGINT",
        Signal::CHILD => "SIGCHLD",
        _ => "a signal",
    }
}

/// The first lines of a log: who writes here.
pub fn introduce(log: &ErrorLog) {
    let (nginx, own) = (crate::version::NGINX_VERSION, env!("CARGO_PKG_VERSION"));
    log.notice(&format!("tidegate/{own}, nginx/{nginx}"));
    let system = rustix::system::uname();
    log.notice(&format!("OS: {} {}", system.sysname().to_string_lossy(), system.release().to_string_lossy()));
    let limit = sys::limits::descriptor_limit();
    let shown = |limit: Option<u64>| limit.map_or("unlimited".into(), |limit| limit.to_string());
    log.notice(&format!("getrlimit(RLIMIT_NOFILE): {}:{}", shown(limit.soft), shown(limit.hard)));
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_about_signals_are_nginx_lines() {
        assert_eq!(
            signal_line(Signal::HUP, 7, ", reconfiguring"),
            "signal 1 (SIGHUP) received from 7, reconfiguring"
        );
        assert_eq!(signal_line(Signal::CHILD, 0, ""), "signal 17 (SIGCHLD) received");
    }
}
