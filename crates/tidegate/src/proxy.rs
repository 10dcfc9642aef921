//! `tidegate proxy LISTEN BACKEND`: a reverse proxy in one line, which is an nginx.conf that can be printed and kept.

use std::net::{Ipv6Addr, UdpSocket};

use crate::launch_plan::LaunchPlan;

/// What to run for these two words. The error is a line for stderr.
pub fn plan(listen: &str, backend: &str) -> Result<LaunchPlan, String> {
    let text = config(listen, backend, has_ipv6())?;
    let mut plan = LaunchPlan::from_memory("(tidegate proxy)", text);
    plan.banner = Some(format!("tidegate: {listen} -> {}\n", backend_url(backend)?));
    Ok(plan)
}

/// The configuration. `ipv6`: an address that is only a port also listens there.
pub fn config(listen: &str, backend: &str, ipv6: bool) -> Result<String, String> {
    let listen = listen_lines(listen, ipv6)?;
    let url = backend_url(backend)?;
    Ok(format!(
        "# tidegate proxy: WebSockets pass without further lines
daemon off;
worker_processes auto;
error_log stderr notice;

events {{
    worker_connections 16384;
}}

http {{
    access_log /dev/stdout combined;

    server {{
{listen}
        client_max_body_size 0;

        location / {{
            proxy_pass {url};
            proxy_http_version 1.1;
            proxy_set_header Host $http_host;
            proxy_set_header X-Real-IP $remote_addr;
            proxy_set_header X-Forwarded-For $proxy_add_x_forwarded_for;
            proxy_set_header X-Forwarded-Proto $scheme;
            proxy_set_header X-Forwarded-Host $http_host;

            # streams and tunnels: pass bytes on as they come, do not cut an idle one after a minute
            proxy_buffering off;
            proxy_request_buffering off;
            proxy_read_timeout 1h;
            proxy_send_timeout 1h;
        }}
    }}
}}
"
    ))
}

/// `8080`, `:8080`, `127.0.0.1:8080`, `[::1]:8080`, `localhost:8080`, `unix:/path`.
fn listen_lines(listen: &str, ipv6: bool) -> Result<String, String> {
    let wrong = |why: &str| {
        format!(
            "invalid address to listen on \"{listen}\": {why}; try :8080, 127.0.0.1:8080 or unix:/run/app.sock"
        )
    };
    if let Some(path) = listen.strip_prefix("unix:") {
        return match path.starts_with('/') && is_plain(path) {
            true => Ok(format!("        listen unix:{path};\n")),
            false => {
                Err(wrong("the path of a unix socket starts with / and has no spaces, quotes or braces"))
            }
        };
    }
    if listen.contains("://") {
        return Err(wrong("it is an address, not a URL"));
    }
    let (host, port) = listen.rsplit_once(':').unwrap_or(("", listen));
    let port = port_number(port).map_err(|why| wrong(&why))?;
    match host {
        "" | "*" => {
            let v6 = if ipv6 { format!("        listen [::]:{port};\n") } else { String::new() };
            Ok(format!("        listen {port};\n{v6}"))
        }
        host if is_host(host) => Ok(format!("        listen {host}:{port};\n")),
        _ => Err(wrong("the host is not one")),
    }
}

/// `3000`, `:3000`, `host:3000`, `http://host:3000/path`, `https://host`, `unix:/path`.
fn backend_url(backend: &str) -> Result<String, String> {
    let wrong = |why: &str| {
        format!(
            "invalid backend \"{backend}\": {why}; try localhost:3000, http://host:3000/path or unix:/run/app.sock"
        )
    };
    if let Some(path) = backend.strip_prefix("unix:") {
        return match path.starts_with('/') && is_plain(path) {
            true => Ok(format!("http://unix:{path}")),
            false => {
                Err(wrong("the path of a unix socket starts with / and has no spaces, quotes or braces"))
            }
        };
    }
    let (scheme, rest) = match backend.split_once("://") {
        Some(("http" | "ws", rest)) => ("http", rest),
        Some(("https" | "wss", rest)) => ("https", rest),
        Some(_) => return Err(wrong("the scheme must be http or https")),
        None => ("http", backend),
    };
    let (authority, path) = rest.split_at(rest.find('/').unwrap_or(rest.len()));
    if !is_plain(path) {
        return Err(wrong("the path has spaces, quotes, braces, a $, or a ;"));
    }
    let (host, port) = split_authority(authority, backend.contains("://"));
    if let Some(port) = port {
        port_number(port).map_err(|why| wrong(&why))?;
    }
    let host = if host.is_empty() { "127.0.0.1" } else { host };
    if !is_host(host) || authority.is_empty() {
        return Err(wrong("the host is not one"));
    }
    Ok(format!("{scheme}://{host}{}{path}", port.map(|port| format!(":{port}")).unwrap_or_default()))
}

/// Host and port. A lone number is a port, unless a scheme makes it a host.
fn split_authority(authority: &str, is_url: bool) -> (&str, Option<&str>) {
    let is_number = !authority.is_empty() && authority.bytes().all(|byte| byte.is_ascii_digit());
    match authority.rsplit_once(':') {
        // A colon within brackets belongs to an IPv6 address.
        Some((host, port)) if !port.contains(']') => (host, Some(port)),
        None if is_number && !is_url => ("", Some(authority)),
        _ => (authority, None),
    }
}

fn port_number(text: &str) -> Result<u16, String> {
    match text.parse::<u16>() {
        Ok(port) if port > 0 && text.bytes().all(|byte| byte.is_ascii_digit()) => Ok(port),
        _ => Err(format!("\"{text}\" is no port, which is a number from 1 to 65535")),
    }
}

fn is_host(host: &str) -> bool {
    if let Some(inner) = host.strip_prefix('[') {
        return inner.strip_suffix(']').is_some_and(|inner| inner.parse::<Ipv6Addr>().is_ok());
    }
    !host.is_empty() && host.bytes().all(|byte| byte.is_ascii_alphanumeric() || b".-_".contains(&byte))
}

/// Nothing nginx.conf gives a meaning to.
fn is_plain(text: &str) -> bool {
    text.bytes().all(|byte| byte.is_ascii_graphic() && !b";{}\"'\\$#".contains(&byte))
}

fn has_ipv6() -> bool {
    UdpSocket::bind("[::1]:0").is_ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(listen: &str, backend: &str, expected: &str) {
        let shown = match config(listen, backend, true) {
            Ok(text) => {
                let lines = text.lines().map(str::trim);
                let wanted =
                    lines.filter(|line| line.starts_with("listen ") || line.starts_with("proxy_pass "));
                wanted.collect::<Vec<_>>().join(" ")
            }
            Err(error) => error.split("; try").next().unwrap().to_owned(),
        };
        assert_eq!(shown, expected, "{listen} {backend}");
    }

    #[test]
    fn the_two_words_in_all_their_forms() {
        check(":8080", "localhost:3000", "listen 8080; listen [::]:8080; proxy_pass http://localhost:3000;");
        check("8080", "3000", "listen 8080; listen [::]:8080; proxy_pass http://127.0.0.1:3000;");
        check("127.0.0.1:80", ":3000", "listen 127.0.0.1:80; proxy_pass http://127.0.0.1:3000;");
        check("[::1]:80", "http://a.b:1/x/", "listen [::1]:80; proxy_pass http://a.b:1/x/;");
        check("unix:/x", "unix:/run/app.sock", "listen unix:/x; proxy_pass http://unix:/run/app.sock;");
        check("1", "ws://[::1]:9/", "listen 1; listen [::]:1; proxy_pass http://[::1]:9/;");
        check("localhost:1", "https://app", "listen localhost:1; proxy_pass https://app;");
        check("1", "app", "listen 1; listen [::]:1; proxy_pass http://app;");
    }

    #[test]
    fn what_is_wrong_with_them() {
        let port = |text| format!("\"{text}\" is no port, which is a number from 1 to 65535");
        check("http://a", "b", "invalid address to listen on \"http://a\": it is an address, not a URL");
        check("a", "b", &format!("invalid address to listen on \"a\": {}", port("a")));
        check(":0", "b", &format!("invalid address to listen on \":0\": {}", port("0")));
        check("a b:1", "b", "invalid address to listen on \"a b:1\": the host is not one");
        check("1", "a:99999", &format!("invalid backend \"a:99999\": {}", port("99999")));
        check("1", "ftp://a", "invalid backend \"ftp://a\": the scheme must be http or https");
        check("1", "", "invalid backend \"\": the host is not one");
        check("1", "http://", "invalid backend \"http://\": the host is not one");
        check("1", "a;}", "invalid backend \"a;}\": the host is not one");
        check("1", "a/$x", "invalid backend \"a/$x\": the path has spaces, quotes, braces, a $, or a ;");
        check(
            "unix:x",
            "a",
            "invalid address to listen on \"unix:x\": the path of a unix socket starts with / and has no spaces, quotes or braces",
        );
    }
}
