//! Measurements beside nginx in one run: what `cargo xtask bench` runs.
//!
//! # What is counted
//!
//! CPU time is the sum over all threads of all processes of a proxy (the monitor as well as what serves) of the run time
//! in `/proc/PID/task/*/schedstat`, taken by the load process at the first and last moment of a stretch and divided by
//! the operations that ended in it. Throughput and p99 of the very same stretch stand beside it. Both proxies read the
//! same nginx.conf, run on the same core one after the other (ours, nginx, nginx, ours, ...), and get the same load from
//! a process that has a core of its own: pairs side by side see the same weather, so the ratio stands where the figures
//! move. Where cores can't be chosen, the first line says so.
//!
//! # Which load is fair
//!
//! A *closed* load starts an operation when the one before has ended. The faster proxy then gets more work a second, and
//! on two cores the load's own core is the limit about as often as the proxy's: whoever is faster than the load falls
//! asleep between messages and pays a wake-up for each, whoever is slower finds a queue at every turn and pays for none.
//! The figure would punish speed, and would reward collecting messages before touching them.
//!
//! So the default is *paced*: operations are due on a clock, in a burst each millisecond, at a part (`--share`) of what
//! nginx reaches closed, and each proxy gets exactly that many. Bursts make the number of wake-ups a matter of the load
//! rather than of the proxy. Latency counts from the moment an operation was due, so that a proxy which saves CPU by
//! waiting shows it in p99, and one that can't keep up shows it in `/s` and p99 at once. `--load closed` remains for
//! the greatest throughput; `load` in the table is how busy the load's own core was (near 100 %: don't trust `/s`), and `wait` the
//! part of the time in which the proxy was ready to run and its core was taken (by strangers, or by another of its own
//! threads, which share the one core so that a second thread is no second core for free). Where the machine cannot be had
//! alone, `chrt -f 5` before the built bench (with `--binary`, as root) lets neither proxies nor load wait for strangers: the
//! spread shrinks from tens of per cent to a few. The strangers still cool the caches.
//!
//! # TLS
//!
//! In the wss rows the client speaks TLS to the proxy, and the proxy speaks plain to the backend. All proxies show the same
//! ECDSA P-256 certificate, made for the run; clients resume nothing and verify nothing, and offer one protocol, one cipher
//! suite and one group, so that all proxies do the same work (`--tls defaults`: they offer everything). What was agreed
//! upon stands below the table. An nginx built without ssl gives way to another in these rows, named above the table.
#![forbid(unsafe_code)]

mod bench;
mod certificate;
mod cgroup;
mod compare;
mod configs;
mod load;
mod machine;
mod memory;
mod options;
mod peers;
mod process;
mod report;
mod scenario;

use std::process::ExitCode;

use options::Options;

fn main() -> ExitCode {
    let mut arguments = std::env::args().skip(1).peekable();
    machine::raise_descriptor_limit();
    let outcome = match arguments.next_if(|first| first == "load-process") {
        Some(_) => {
            let ports = arguments.next().and_then(|text| text.parse().ok()).unwrap_or(1);
            load::serve(ports).map_err(|error| error.to_string())
        }
        None => Options::parse(arguments)
            .map_err(|error| format!("{error}\n{}", options::USAGE))
            .and_then(|options| bench::main(&options).map_err(|error| error.to_string())),
    };
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("bench: {error}");
            ExitCode::FAILURE
        }
    }
}
