//! What the proxies are told: one nginx.conf for us and nginx, and its like in the words of other peers.

use std::fmt::Write as _;
use std::path::Path;

/// What a configuration is made from.
#[derive(Debug, Clone)]
pub(crate) struct Site<'a> {
    /// Where the proxy listens, on 127.0.0.1.
    pub(crate) listen: u16,
    /// The backend's ports.
    pub(crate) backend: &'a [u16],
    /// `proxy_buffer_size`; none: the default.
    pub(crate) buffer: Option<&'a str>,
    /// Whether it speaks TLS to clients, with the certificate in its directory.
    pub(crate) secure: bool,
    /// `worker_rlimit_nofile` and `worker_connections`.
    pub(crate) descriptors: u64,
    /// The proxy's own directory.
    pub(crate) dir: &'a Path,
}

/// nginx.conf, word for word the same for both but for the port. The two upgrade lines stand in it, so that nginx can
/// upgrade; ours would without them.
pub(crate) fn nginx(site: &Site<'_>) -> String {
    let Site { listen, backend, buffer, descriptors, secure, .. } = site;
    let (ssl, certificate) = match secure {
        true => (" ssl", "\n        ssl_certificate cert.pem;\n        ssl_certificate_key key.pem;"),
        false => ("", ""),
    };
    let servers = |ports: &[u16]| {
        ports.iter().fold(String::new(), |mut text, port| {
            let _ = write!(text, "server 127.0.0.1:{port}; ");
            text
        })
    };
    let buffer = buffer.map_or(String::new(), |size| {
        format!("\n            proxy_buffer_size {size};\n            proxy_buffers 8 {size};\n            proxy_busy_buffers_size {size};")
    });
    format!(
        r#"daemon off;
worker_processes 1;
worker_rlimit_nofile {descriptors};
pid nginx.pid;
error_log logs/error.log error;

events {{
    worker_connections {descriptors};
}}

http {{
    access_log logs/access.log combined;
    keepalive_requests 1000000000;
    proxy_temp_path temp_proxy;
    client_body_temp_path temp_body;

    upstream sockets {{
        {sockets}
    }}
    upstream pages {{
        {pages}
        keepalive 128;
        keepalive_requests 1000000000;
    }}

    server {{
        listen 127.0.0.1:{listen}{ssl} backlog=4096;
        server_name _;{certificate}

        location / {{
            proxy_pass http://pages;
            proxy_http_version 1.1;
            proxy_set_header Connection "";
        }}
        location /ws/ {{
            proxy_pass http://sockets;
            proxy_http_version 1.1;
            proxy_set_header Upgrade $http_upgrade;
            proxy_set_header Connection "upgrade";
            proxy_read_timeout 1h;{buffer}
        }}
    }}
}}
"#,
        sockets = servers(backend),
        pages = servers(&backend[..1]),
    )
}

/// haproxy.cfg: one thread, logs to nowhere that costs (it has no log files of its own), connections to the pages reused.
pub(crate) fn haproxy(site: &Site<'_>) -> String {
    let Site { listen, backend, descriptors, .. } = site;
    let ssl =
        if site.secure { format!(" ssl crt {}", site.dir.join("both.pem").display()) } else { String::new() };
    let buffer = site.buffer.map_or(String::new(), |_| "    tune.bufsize 65536\n".into());
    let mut text = format!(
        "global\n    nbthread 1\n    maxconn {}\n    tune.pool-low-fd-ratio 90\n{buffer}\n\
         defaults\n    mode http\n    timeout connect 10s\n    timeout client 1h\n    timeout server 1h\n    \
         timeout tunnel 1h\n    http-reuse safe\n\n\
         frontend site\n    bind 127.0.0.1:{listen}{ssl} backlog 4096\n    \
         use_backend sockets if {{ path_beg /ws/ }}\n    default_backend pages\n\n\
         backend pages\n    server page 127.0.0.1:{}\n\nbackend sockets\n",
        descriptors / 2 - 100,
        backend[0]
    );
    for (index, port) in backend.iter().enumerate() {
        let _ = writeln!(text, "    server socket{index} 127.0.0.1:{port}");
    }
    text
}

/// A Caddyfile.
pub(crate) fn caddy(site: &Site<'_>) -> String {
    let ports =
        |ports: &[u16]| ports.iter().map(|port| format!("127.0.0.1:{port}")).collect::<Vec<_>>().join(" ");
    format!(
        "{{\n    admin off\n    auto_https off\n    storage file_system {dir}\n}}\nhttp://127.0.0.1:{listen} {{\n    bind 127.0.0.1\n    \
         log {{\n        output file {dir}/access.log\n    }}\n    reverse_proxy /ws/* {sockets}\n    reverse_proxy {pages}\n}}\n",
        dir = site.dir.display(),
        listen = site.listen,
        sockets = ports(site.backend),
        pages = ports(&site.backend[..1]),
    )
}
