//! Name lookup at start, through the system (`/etc/hosts`, DNS, …). It blocks: for configuration time only.

use std::fs;
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, ToSocketAddrs};

/// All addresses of `host`, in the order the system gives them, each with `port`.
///
/// As nginx does (its lookup sets `AI_ADDRCONFIG`), a family this machine has no address of is left out when there
/// are others: `localhost` inside a container without IPv6 is one peer, not two of which one never answers.
///
/// # Errors
/// Whatever the system's lookup failed with; nginx says `host not found in upstream "…"` for all of them.
pub fn resolve(host: &str, port: u16) -> io::Result<Vec<SocketAddr>> {
    let mut found: Vec<SocketAddr> = Vec::new();
    for addr in (host, port).to_socket_addrs()? {
        if !found.contains(&addr) {
            found.push(addr);
        }
    }
    keep_configured(&mut found, Families::of_this_machine());
    if found.is_empty() {
        return Err(io::Error::new(io::ErrorKind::NotFound, "host not found"));
    }
    Ok(found)
}

/// Which address families have an address beyond loopback.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Families {
    v4: bool,
    v6: bool,
}

impl Families {
    /// Read from `/proc`, which needs no privileges. What can't be read counts as configured.
    fn of_this_machine() -> Self {
        let v4 = fs::read_to_string("/proc/net/fib_trie").map_or(true, |text| has_ipv4(&text));
        let v6 = match fs::read_to_string("/proc/net/if_inet6") {
            Ok(text) => has_ipv6(&text),
            // The kernel has no IPv6 then; but without /proc nothing is known.
            Err(_) => fs::metadata("/proc/net").is_err(),
        };
        Families { v4, v6 }
    }
}

/// With exactly one family configured, the other's addresses go, unless they are all there is.
fn keep_configured(found: &mut Vec<SocketAddr>, families: Families) {
    if families.v4 == families.v6 {
        return;
    }
    let useful = |addr: &SocketAddr| addr.is_ipv4() == families.v4;
    if found.iter().any(useful) {
        found.retain(useful);
    }
}

/// Local addresses stand in `fib_trie` as a line `|-- address`, followed by `/32 host LOCAL`.
fn has_ipv4(fib_trie: &str) -> bool {
    let mut last = None;
    fib_trie.lines().map(str::trim).any(|line| match line.strip_prefix("|-- ") {
        Some(addr) => {
            last = addr.parse::<Ipv4Addr>().ok();
            false
        }
        None => line == "/32 host LOCAL" && last.is_some_and(|addr| !addr.is_loopback()),
    })
}

/// One line an address, 32 hex digits first.
fn has_ipv6(if_inet6: &str) -> bool {
    let addresses = if_inet6.lines().filter_map(|line| line.split_whitespace().next());
    addresses.filter_map(|hex| u128::from_str_radix(hex, 16).ok()).any(|bits| {
        let addr = Ipv6Addr::from(bits);
        !IpAddr::V6(addr).is_loopback()
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(host: &str, expected: &str) {
        let found = match resolve(host, 80) {
            Ok(found) => found.iter().map(ToString::to_string).collect::<Vec<_>>().join(" "),
            Err(_) => "host not found".to_owned(),
        };
        assert_eq!(found, expected, "{host}");
    }

    #[test]
    fn literal_addresses_need_no_lookup() {
        check("127.0.0.1", "127.0.0.1:80");
        check("::1", "[::1]:80");
    }

    #[test]
    fn localhost_is_loopback_and_each_address_once() {
        let found = resolve("localhost", 81).unwrap();
        assert!(found.iter().all(|addr| addr.ip().is_loopback() && addr.port() == 81));
        let mut unique = found.clone();
        unique.dedup();
        assert_eq!(unique, found);
    }

    #[test]
    fn unknown_hosts_are_errors() {
        check("no such host", "host not found");
        check("", "host not found");
    }

    #[track_caller]
    fn check_families(v4: bool, v6: bool, found: &[&str], expected: &[&str]) {
        let mut addrs = found.iter().map(|text| text.parse().unwrap()).collect();
        keep_configured(&mut addrs, Families { v4, v6 });
        assert_eq!(addrs.iter().map(ToString::to_string).collect::<Vec<_>>(), expected);
    }

    #[test]
    fn a_family_the_machine_lacks_is_left_out() {
        let both = ["[::1]:80", "127.0.0.1:80"];
        check_families(true, true, &both, &both);
        check_families(false, false, &both, &both);
        check_families(true, false, &both, &["127.0.0.1:80"]);
        check_families(false, true, &both, &["[::1]:80"]);
        check_families(true, false, &["[::1]:80"], &["[::1]:80"]);
    }

    #[test]
    fn families_are_read_from_proc() {
        let loopback = "  +-- 0.0.0.0/0 3 0 5\n     |-- 127.0.0.1\n        /32 host LOCAL\n";
        assert!(!has_ipv4(loopback));
        assert!(has_ipv4(&format!("{loopback}     |-- 10.0.0.2\n        /32 host LOCAL\n")));
        assert!(!has_ipv4("     |-- 10.0.0.2\n        /24 link UNICAST\n"));
        let loopback = "00000000000000000000000000000001 01 80 10 80       lo\n";
        assert!(!has_ipv6(loopback));
        assert!(has_ipv6(&format!("{loopback}fe8000000000000000fc00fffe000001 04 40 20 80     eth0\n")));
    }
}
