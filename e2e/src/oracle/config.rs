//! One server of many shapes, each time with other settings. `%%UP%%` is the upstream's name, `%%LANE%%` the lane's.

use crate::random::Random;

/// Lines for `http {}`: an upstream, its server, and a second server on the same port.
pub fn lane(random: &mut Random) -> String {
    let server = some(SERVER, 3, "", random);
    let proxy = some(PROXY, 3, "", random);
    let mut text = format!(
        "upstream %%UP%% {{\nserver 127.0.0.1:%%U%%;\n{}\n}}\n\
         upstream %%UP%%n {{\nserver 127.0.0.1:%%U%% max_fails=0;\nserver 127.0.0.1:%%U%% max_fails=0;\n}}\n\
         server {{\nlisten 127.0.0.1:%%PORT%%;\nserver_name b *.b ~^c(?<n>.*)$;\n{LOGS}{server}location / {{ return 200 \"second $host $n\"; }}\n}}\n\
         server {{\nlisten 127.0.0.1:%%PORT%% default_server;\nserver_name a;\nwebsocket manual;\n{LOGS}{server}{proxy}",
        random.pick(&[
            "keepalive 4;",
            "keepalive 4;",
            "keepalive 4;",
            "keepalive 0;",
            "keepalive 1;\nkeepalive_requests 2;",
            ""
        ]),
    );
    for place in LOCATIONS {
        text += &place
            .replace("SOME", &some(PROXY, 1, place, random))
            .replace("WEBSOCKET", random.pick(&["websocket manual;", "websocket auto;"]));
    }
    text + "}\n"
}

const LOGS: &str =
    "access_log %%DIR%%/access-%%LANE%%.log oracle;\nerror_log %%DIR%%/error-%%LANE%%.log info;\n";

/// For `http {}`, once. Bytes that depend on a neighbour's timing are left out.
pub const FORMAT: &str = "log_format oracle '\
    status=[$status] body_bytes_sent=[$body_bytes_sent] bytes_sent=[$bytes_sent] request_length=[$request_length] \
    request=[$request] request_method=[$request_method] uri=[$uri] args=[$args] is_args=[$is_args] host=[$host] \
    http_host=[$http_host] upstream_status=[$upstream_status] upstream_addr=[$upstream_addr] \
    upstream_response_length=[$upstream_response_length] request_completion=[$request_completion] \
    content_type=[$content_type] \
    connection_requests=[$connection_requests] sent_http_content_type=[$sent_http_content_type] \
    sent_http_content_length=[$sent_http_content_length] http_x_a=[$http_x_a] http_cookie=[$http_cookie] \
    http_x_forwarded_for=[$http_x_forwarded_for] proxy_add_x_forwarded_for=[$proxy_add_x_forwarded_for] \
    upstream_http_x_a=[$upstream_http_x_a] \
    sent_http_location=[$sent_http_location] sent_http_transfer_encoding=[$sent_http_transfer_encoding] \
    server_name=[$server_name] request_filename=[$request_filename] arg_x=[$arg_x] cookie_a=[$cookie_a] \
    request_uri=[$request_uri] scheme=[$scheme] server_protocol=[$server_protocol] \
    upstream_http_set_cookie=[$upstream_http_set_cookie] remote_user=[$remote_user] document_uri=[$document_uri] \
    document_root=[$document_root] \
    end=[]';\n\
    map $arg_x $mapped { default none; 1 one; ~^(?<digit>[0-9]) d$digit; }\nserver_tokens off;\ntypes { text/html html; text/plain txt; }\n\
    default_type application/octet-stream;\nkeepalive_timeout 75s;\n";

/// A few lines of a list, none of them twice, nor beside one that is there.
fn some(list: &[&str], most: usize, beside: &str, random: &mut Random) -> String {
    let mut taken: Vec<&str> = Vec::new();
    for _ in 0..random.below(most + 1) {
        let line = random.pick(list);
        let name = line.split(' ').next().unwrap_or_default();
        let words = line.split(' ').take(2).collect::<Vec<_>>().join(" ");
        let may_repeat =
            matches!(name, "proxy_set_header" | "add_header" | "error_page" | "proxy_hide_header");
        let is_taken =
            beside.contains(&format!("{name} ")) || taken.iter().any(|other| other.starts_with(name));
        let is_there = beside.contains(&words) || taken.iter().any(|other| other.starts_with(&words));
        if !is_there && (may_repeat || !is_taken) {
            taken.push(line);
        }
    }
    taken.iter().map(|line| format!("{line}\n")).collect()
}

const SERVER: &[&str] = &[
    "underscores_in_headers on;",
    "ignore_invalid_headers off;",
    "merge_slashes off;",
    "client_max_body_size 20;",
    "client_max_body_size 0;",
    "large_client_header_buffers 2 512;",
    "client_header_buffer_size 64;",
    "keepalive_requests 2;",
    "chunked_transfer_encoding off;",
    "absolute_redirect off;",
    "server_name_in_redirect on;",
    "port_in_redirect off;",
    "keepalive_disable none;",
    "max_ranges 1;",
    "max_ranges 0;",
    "if_modified_since before;",
    "if_modified_since off;",
    "etag off;",
    "log_not_found off;",
    "recursive_error_pages on;",
    "error_page 404 /s/text.txt;",
    "error_page 400 404 =200 /r/200;",
    "error_page 502 504 @named;",
    "error_page 400 413 414 494 /p/err;",
    "add_header X-Add $uri always;",
    "add_header X-Add $status;",
    "max_headers 5;",
    "lingering_close off;",
    "lingering_close always;",
    "reset_timedout_connection on;",
    "msie_padding off;",
    "add_trailer X-Trailer $status;",
    "keepalive_timeout 75s 30s;",
    "error_page 500 502 503 504 =404 /x/e;",
    "error_page 405 =200 $uri;",
    "error_page 403 http://other/;",
    "if ($request_method = PUT) { return 405; }",
];

const PROXY: &[&str] = &[
    "proxy_buffering off;",
    "proxy_request_buffering off;",
    "proxy_http_version 1.0;",
    "proxy_set_header Connection \"\";",
    "proxy_set_header Connection close;",
    "proxy_set_header Host $http_host;",
    "proxy_set_header Host $host;",
    "proxy_set_header X-Uri $request_uri;",
    "proxy_set_header X-A \"\";",
    "proxy_set_header Content-Length \"\";",
    "proxy_set_header Expect $http_expect;",
    "proxy_set_header TE $http_te;",
    "proxy_set_header X-Forwarded-For $proxy_add_x_forwarded_for;",
    "proxy_method POST;",
    "proxy_method GET;",
    "proxy_set_body \"b$uri\";",
    "proxy_pass_request_headers off;",
    "proxy_hide_header X-A;",
    "proxy_pass_header Server;",
    "proxy_pass_header Date;",
    "proxy_ignore_headers X-Accel-Redirect;",
    "proxy_ignore_headers X-Accel-Buffering;",
    "proxy_buffer_size 1k;",
    "proxy_intercept_errors on;",
    "proxy_redirect off;",
    "proxy_redirect http://%%UP%%/base/ /r/;",
    "proxy_redirect ~^http://([^/]+)/(.*)$ /$1/$2;",
    "proxy_cookie_domain back front;",
    "proxy_cookie_path /base/ /;",
    "proxy_cookie_flags ~ secure samesite=lax;",
    "proxy_cookie_flags a nosecure httponly;",
    "proxy_next_upstream error timeout http_500 http_503 non_idempotent;",
    "proxy_next_upstream off;",
    "proxy_next_upstream error invalid_header http_404;",
    "proxy_ignore_client_abort on;",
    "proxy_pass_header X-Accel-Expires;",
    "proxy_hide_header Content-Type;",
    "proxy_pass_header Status;",
    "proxy_set_header Cookie $cookie_a;",
    "proxy_set_header X-Long $args$uri;",
];

const LOCATIONS: &[&str] = &[
    "location / { return 200 \"root $uri $args\"; }\n",
    "location /p/ {\nproxy_pass http://%%UP%%;\nSOME}\n",
    "location /q/ {\nproxy_pass http://%%UP%%/base/;\nSOME}\n",
    "location /b/ {\nproxy_pass http://%%UP%%;\nproxy_buffering off;\n}\n",
    "location /o/ {\nproxy_pass http://%%UP%%;\nproxy_request_buffering off;\n}\n",
    "location /k/ {\nproxy_pass http://127.0.0.1:%%U%%/;\nproxy_http_version 1.0;\nSOME}\n",
    "location /w/ {\nWEBSOCKET\nproxy_pass http://%%UP%%;\nproxy_set_header Upgrade $http_upgrade;\nproxy_set_header Connection upgrade;\n}\n",
    "location /e/ {\nproxy_pass http://%%UP%%;\nproxy_intercept_errors on;\nerror_page 404 502 = @named;\nerror_page 500 /s/text.txt;\nerror_page 503 =200 /r/200;\nerror_page 301 302 = @where;\n}\n",
    "location @named { return 200 \"named $uri $status $upstream_status\"; }\n",
    "location @where {\nset $there $upstream_http_location;\nreturn 200 \"there [$there]\";\n}\n",
    "location /h/ {\nproxy_pass http://%%UP%%/h$uri$is_args$args;\nproxy_set_header Host x$host;\nproxy_set_header X-Http $http_x_a;\nproxy_set_header X-Arg $arg_x$arg_a;\nproxy_set_header X-Fwd $proxy_add_x_forwarded_for;\nproxy_set_header X-Cookie $cookie_a;\nproxy_hide_header X-B;\nadd_header X-Up $upstream_http_x_a;\nadd_header X-All \"$sent_http_content_type $mapped\" always;\nSOME}\n",
    "location /n/ {\nproxy_pass http://%%UP%%n;\nproxy_next_upstream error timeout invalid_header http_500 http_503 http_404 http_429;\n}\n",
    "location /s/ { index none index.html; }\n",
    "location /d/ {\nalias %%DIR%%/html/s/;\nadd_header X-Range $http_range;\n}\n",
    "location /r/ {\nlocation /r/200 { return 200 \"200 $uri\"; }\nlocation /r/204 { return 204; }\nlocation /r/301 { return 301 /s/; }\nlocation /r/302 { return 302 http://other/$uri; }\nlocation /r/404 { return 404; }\nlocation /r/444 { return 444; }\nlocation /r/500 { return 500; }\nlocation /r/503 { return 503; }\nlocation /r/host { return 307 $scheme://$host$request_uri; }\nlocation /r/var { default_type text/x; return 200 \"$request_method $request_body $content_length\"; }\nlocation /r/relative { return 302 y; }\nreturn 418 \"r\";\n}\n",
    "location /v/ {\nif ($arg_x = 1) { return 403; }\nif ($request_method = DELETE) { return 405; }\nif ($http_cookie ~* a=(.)) { set $id $1; }\nrewrite ^/v/(a|b)$ /p/$1?v=$id last;\nrewrite ^/v/redirect(.*)$ /s$1 redirect;\nrewrite ^/v/permanent http://other/$mapped permanent;\nrewrite ^/v/loop /v/loop last;\nrewrite ^/v/cond/?(.*)$ /q/$1? last;\nrewrite ^/v/break(.*)$ /broke$1 break;\nrewrite ^/v/html(.*)$ /s/index.html$1;\nif (-f $document_root/s/text.txt) { rewrite ^/v/self$ /r/200 last; }\nif ($request_uri ~ \"chain\") { rewrite . /x/chain last; }\nproxy_pass http://%%UP%%;\nSOME}\n",
    "location /t/ { try_files $uri /s$uri /s/$arg_x @named; }\n",
    "location /i/ {\ninternal;\nalias %%DIR%%/html/s/;\n}\n",
    "location /x/ {\nerror_page 404 = /q/err;\nerror_page 403 =404 /none;\nproxy_pass http://%%UP%%/;\nproxy_intercept_errors on;\nSOME}\n",
    "location = /c/a { return 200 exact; }\n",
    "location ^~ /c/y { return 200 prefix; }\n",
    "location ~ ^/(?<one>[c-d])/(.*)\\.re$ { return 200 \"regex $one $2\"; }\n",
    "location ~* \\.re$ {\nproxy_pass http://%%UP%%;\n}\n",
    "location /f/ {\nproxy_pass http://%%UP%%/f;\nproxy_buffering off;\nproxy_request_buffering off;\nSOME}\n",
    "location /g/ {\nproxy_pass_request_body off;\nproxy_set_header Content-Length \"\";\nproxy_pass http://%%UP%%;\n}\n",
    "location /z { proxy_pass http://%%UP%%/zz/; }\n",
];

/// The files the locations look at, under the prefix.
pub const FILES: &[(&str, &str)] = &[
    ("html/s/text.txt", "0123456789abcdefghijklmnopqrstuvwxyz"),
    ("html/s/index.html", "<p>index</p>"),
    ("html/s/dir/index.html", "<p>dir</p>"),
    ("html/s/empty", ""),
    ("html/s/y/z", "yz"),
    ("html/t/a", "ta"),
    ("html/index.html", "<p>root</p>"),
];
