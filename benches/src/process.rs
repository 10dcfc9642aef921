//! What /proc tells about a proxy's processes: who they are, their CPU time, their memory.

use std::fs;
use std::io;

/// A process and all its descendants, itself first.
pub(crate) fn tree(root: u32) -> io::Result<Vec<u32>> {
    let mut parents = Vec::new();
    for entry in fs::read_dir("/proc")? {
        let Some(pid) = entry?.file_name().to_str().and_then(|name| name.parse::<u32>().ok()) else {
            continue;
        };
        // A process may end between the listing and this read.
        if let Ok(stat) = fs::read_to_string(format!("/proc/{pid}/stat"))
            && let Some(parent) = parent_in_stat(&stat)
        {
            parents.push((pid, parent));
        }
    }
    let mut found = vec![root];
    let mut next = 0;
    while next < found.len() {
        let parent = found[next];
        found.extend(parents.iter().filter(|(_, of)| *of == parent).map(|(pid, _)| *pid));
        next += 1;
    }
    Ok(found)
}

/// What the scheduler gave the threads of some processes, microseconds since each began.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct CpuTime {
    /// Running.
    pub(crate) ran_us: f64,
    /// Ready to run, but the core was somebody else's: how busy the machine is with other things.
    pub(crate) waited_us: f64,
}

/// CPU time of all threads of these processes: the first two numbers of each thread's `schedstat`, which the kernel
/// counts in nanoseconds. (`utime` and `stime` come in ticks of 10 ms.)
///
/// # Errors
/// When a process is gone: what it ran is then lost, and the figure would be wrong.
pub(crate) fn cpu_time(pids: &[u32]) -> io::Result<CpuTime> {
    let mut time = CpuTime::default();
    for pid in pids {
        let tasks = fs::read_dir(format!("/proc/{pid}/task"))
            .map_err(|error| io::Error::other(format!("process {pid} of the proxy is gone: {error}")))?;
        for task in tasks {
            // A thread may end meanwhile; proxies keep theirs.
            let Ok(text) = fs::read_to_string(task?.path().join("schedstat")) else { continue };
            let mut micros =
                text.split(' ').filter_map(|number| Some(number.parse::<u64>().ok()? as f64 / 1e3));
            time.ran_us += micros.next().unwrap_or(0.0);
            time.waited_us += micros.next().unwrap_or(0.0);
        }
    }
    Ok(time)
}

/// Memory of these processes, bytes: PSS, which divides pages shared between them by the number of sharers.
///
/// # Errors
/// When a process is gone or may not be looked into.
pub(crate) fn pss_bytes(pids: &[u32]) -> io::Result<u64> {
    let mut total = 0;
    for pid in pids {
        let rollup = fs::read_to_string(format!("/proc/{pid}/smaps_rollup"))?;
        total += pss_in_rollup(&rollup).ok_or_else(|| io::Error::other("no Pss in smaps_rollup"))?;
    }
    Ok(total)
}

/// Field 4. The name in field 2 may hold blanks and brackets, so counting starts behind the last bracket.
fn parent_in_stat(stat: &str) -> Option<u32> {
    stat.rsplit_once(')')?.1.split_whitespace().nth(1)?.parse().ok()
}

fn pss_in_rollup(rollup: &str) -> Option<u64> {
    let line = rollup.lines().find_map(|line| line.strip_prefix("Pss:"))?;
    Some(line.trim().strip_suffix(" kB")?.parse::<u64>().ok()? * 1024)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_proc_lines() {
        assert_eq!(parent_in_stat("17 (a) b (c) S 4 17 17 0"), Some(4));
        assert_eq!(parent_in_stat("17 (a"), None);
        assert_eq!(
            pss_in_rollup("Rss:  900 kB\nPss:                 812 kB\nPss_Dirty: 4 kB\n"),
            Some(812 * 1024)
        );
    }

    #[test]
    fn knows_a_child_and_its_time() {
        let mut child = std::process::Command::new("sleep").arg("60").spawn().expect("sleep");
        let found = tree(std::process::id()).expect("tree");
        assert!(found.contains(&child.id()));
        assert!(cpu_time(&[std::process::id()]).expect("own time").ran_us > 0.0);
        assert!(pss_bytes(&[std::process::id()]).expect("own memory") > 0);
        child.kill().expect("kill");
        child.wait().expect("wait");
        assert!(cpu_time(&[child.id()]).is_err(), "a process that is gone is an error");
    }
}
