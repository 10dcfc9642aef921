//! What we do with the rest of nginx's language, as data (DESIGN D14): nothing is silently ignored.
//!
//! Refused is what would serve something its author did not want if it were ignored: access rules, limits, another
//! source of content. Accepted is what costs comfort or speed only, with the difference in words. Sizing is what an event
//! loop of another shape has no use for. A directive moves from here to a module of its own when it works.

use http::config::Answer::{Accepted, Refused, Sizing};
use http::config::{ANY_HTTP, Answer, Args, BlockKind, Context, Directive, HTTP_SERVER, Module};

const LATER: Answer = Refused("it comes with a later version");
const NOT_OURS: Answer = Refused("this is not a part of this server");
const COMMERCIAL: Answer = Refused("it belongs to the commercial version of nginx");
const SSL_ON: Answer = Refused("nginx knows it no more: write \"listen ... ssl\" instead");
const UNCOMPRESSED: Answer = Accepted("certificates are sent uncompressed");
const NO_ECH: Answer = Accepted("no encrypted hello is offered");
const NO_KEY_LOG: Answer = Accepted("no keys are written");
const HTTP2: Answer = Accepted("served without HTTP/2");
const HTTP3: Answer = Accepted("served without HTTP/3");
const NO_GZIP: Answer = Accepted("responses are sent uncompressed");
const NO_GUNZIP: Answer = Accepted("responses are sent as they come");
const NO_GZIP_STATIC: Answer = Accepted("files are sent uncompressed");
const NO_CHARSET: Answer = Accepted("no charset is added to Content-Type, and none is converted");
const NO_LISTING: Answer = Accepted("directories are not listed: 403 is answered");
const WHOLE: Answer = Accepted("responses are fetched whole");
const SATISFY: Answer = Accepted("there are no access rules to combine yet");
const AUTH_DELAY: Answer = Accepted("there is no authentication to delay yet");
const PERFTOOLS: Answer = Accepted("no profile is written");

const MAIN: Context = Context::MAIN;
const EVENTS: Context = Context::EVENTS;
const HTTP: Context = Context::HTTP;
const SERVER: Context = Context::SERVER;
const LOCATION: Context = Context::LOCATION;
const SERVER_LOCATION: Context = SERVER.or(LOCATION);
const SERVER_LOCATION_IF: Context = SERVER_LOCATION.or(Context::LOCATION_IF);
const LOCATION_AND_IF: Context = LOCATION.or(Context::LOCATION_IF);
const LOCATION_AND_EXCEPT: Context = LOCATION.or(Context::LIMIT_EXCEPT);
const INNER: Context = LOCATION_AND_IF.or(Context::LIMIT_EXCEPT);
const WITH_IF: Context = ANY_HTTP.or(Context::LOCATION_IF);
const WITH_EXCEPT: Context = ANY_HTTP.or(Context::LIMIT_EXCEPT);

const fn line(name: &'static str, at: Context, answer: Answer) -> Directive {
    Directive { name, at, answer, args: Args::AtLeast(0), ..Directive::NONE }
}

const fn off(name: &'static str, at: Context, answer: Answer) -> Directive {
    Directive { default: "off", ..line(name, at, answer) }
}

const fn block(name: &'static str, at: Context, answer: Answer) -> Directive {
    Directive { block: Some(BlockKind::Skipped), ..line(name, at, answer) }
}

/// `answer, place, line => names;` by nginx module; `block` for those in braces, `off` for those that say
/// nothing new when they say `off`.
macro_rules! answers {
    ($($module:ident $name:literal { $($answer:expr, $at:expr , $kind:ident => $($directive:ident)*;)* })*) => {
        $(static $module: Module = Module {
            name: $name,
            directives: &[$($($kind(stringify!($directive), $at, $answer),)*)*],
            ..Module::NONE
        };)*
        /// The answers, a module for each of nginx's.
        pub static MODULES: &[&Module] = &[$(&$module,)*];
    };
}

answers! {
    STREAM "stream" {
        LATER, MAIN, block =>
            stream;
    }
    MAIL "mail" {
        NOT_OURS, MAIN, block =>
            mail;
    }
    ACCESS "access" {
        LATER, WITH_EXCEPT, line =>
            allow deny;
    }
    ACME "acme" {
        LATER, HTTP, block =>
            acme_issuer;
        LATER, HTTP, line =>
            acme_shared_zone;
        LATER, SERVER, line =>
            acme_certificate;
    }
    ADDITION "addition" {
        LATER, ANY_HTTP, line =>
            add_before_body add_after_body addition_types;
    }
    API "api" {
        COMMERCIAL, LOCATION, line =>
            api;
        COMMERCIAL, SERVER_LOCATION_IF, line =>
            status_zone;
    }
    AUTH_BASIC "auth_basic" {
        LATER, WITH_EXCEPT, off =>
            auth_basic;
        LATER, WITH_EXCEPT, line =>
            auth_basic_user_file;
    }
    AUTH_JWT "auth_jwt" {
        COMMERCIAL, WITH_EXCEPT, off =>
            auth_jwt;
        COMMERCIAL, HTTP, line =>
            auth_jwt_claim_set auth_jwt_header_set;
        COMMERCIAL, ANY_HTTP, line =>
            auth_jwt_key_cache auth_jwt_leeway;
        COMMERCIAL, WITH_EXCEPT, line =>
            auth_jwt_key_file auth_jwt_key_request auth_jwt_type auth_jwt_require;
    }
    AUTH_REQUEST "auth_request" {
        LATER, ANY_HTTP, off =>
            auth_request;
        LATER, ANY_HTTP, line =>
            auth_request_set;
    }
    AUTH_REQUIRE "auth_require" {
        COMMERCIAL, WITH_EXCEPT, off =>
            auth_require;
    }
    AUTOINDEX "autoindex" {
        NO_LISTING, ANY_HTTP, off =>
            autoindex autoindex_localtime;
        NO_LISTING, ANY_HTTP, line =>
            autoindex_exact_size autoindex_format;
    }
    BROWSER "browser" {
        LATER, ANY_HTTP, line =>
            ancient_browser ancient_browser_value modern_browser modern_browser_value;
    }
    CHARSET "charset" {
        NO_CHARSET, WITH_IF, off =>
            charset override_charset;
        NO_CHARSET, HTTP, block =>
            charset_map;
        NO_CHARSET, ANY_HTTP, line =>
            charset_types;
        NO_CHARSET, WITH_IF, line =>
            source_charset;
    }
    HTTP_CORE_THE_REST "http_core, the rest" {
        Sizing, ANY_HTTP, off =>
            aio aio_write client_body_in_single_buffer directio open_file_cache
            open_file_cache_errors open_file_cache_events tcp_nopush;
        AUTH_DELAY, ANY_HTTP, line =>
            auth_delay;
        LATER, ANY_HTTP, off =>
            client_body_in_file_only disable_symlinks;
        Sizing, ANY_HTTP, line =>
            client_body_temp_path directio_alignment open_file_cache_min_uses open_file_cache_valid
            output_buffers postpone_output read_ahead send_lowat sendfile_max_chunk
            subrequest_output_buffer_size types_hash_bucket_size types_hash_max_size;
        Sizing, HTTP_SERVER, line =>
            connection_pool_size request_pool_size;
        Accepted("103 answers are not passed on"), ANY_HTTP, line =>
            early_hints;
        Accepted("error log lines carry no tags"), ANY_HTTP, line =>
            error_log_tag;
        LATER, LOCATION, block =>
            limit_except;
        Accepted("subrequests are not logged"), ANY_HTTP, off =>
            log_subrequest;
        Accepted("redirects are never refreshes"), ANY_HTTP, off =>
            msie_refresh;
        SATISFY, ANY_HTTP, line =>
            satisfy;
        Sizing, WITH_IF, off =>
            sendfile;
        Sizing, HTTP, line =>
            server_names_hash_bucket_size server_names_hash_max_size variables_hash_bucket_size
            variables_hash_max_size;
    }
    DAV "dav" {
        NOT_OURS, ANY_HTTP, off =>
            create_full_put_path dav_methods;
        NOT_OURS, ANY_HTTP, line =>
            dav_access min_delete_depth;
    }
    EMPTY_GIF "empty_gif" {
        LATER, LOCATION, line =>
            empty_gif;
    }
    F4F "f4f" {
        COMMERCIAL, LOCATION, line =>
            f4f;
        COMMERCIAL, ANY_HTTP, line =>
            f4f_buffer_size;
    }
    FASTCGI "fastcgi" {
        NOT_OURS, ANY_HTTP, line =>
            fastcgi_allow_upstream fastcgi_bind fastcgi_buffer_size fastcgi_buffering
            fastcgi_buffers fastcgi_busy_buffers_size fastcgi_cache_bypass fastcgi_cache_key
            fastcgi_cache_lock_age fastcgi_cache_lock_timeout fastcgi_cache_max_range_offset
            fastcgi_cache_methods fastcgi_cache_min_uses fastcgi_cache_purge fastcgi_cache_valid
            fastcgi_catch_stderr fastcgi_connect_timeout fastcgi_hide_header fastcgi_ignore_headers
            fastcgi_index fastcgi_limit_rate fastcgi_max_temp_file_size fastcgi_next_upstream
            fastcgi_next_upstream_timeout fastcgi_next_upstream_tries fastcgi_no_cache fastcgi_param
            fastcgi_pass_header fastcgi_pass_request_body fastcgi_pass_request_headers
            fastcgi_read_timeout fastcgi_request_buffering fastcgi_send_lowat fastcgi_send_timeout
            fastcgi_socket_rcvbuf fastcgi_socket_sndbuf fastcgi_store_access
            fastcgi_temp_file_write_size fastcgi_temp_path;
        NOT_OURS, ANY_HTTP, off =>
            fastcgi_bind_dynamic fastcgi_cache fastcgi_cache_background_update fastcgi_cache_lock
            fastcgi_cache_revalidate fastcgi_cache_use_stale fastcgi_force_ranges
            fastcgi_ignore_client_abort fastcgi_intercept_errors fastcgi_keep_conn
            fastcgi_request_dynamic fastcgi_socket_keepalive fastcgi_store;
        NOT_OURS, HTTP, line =>
            fastcgi_cache_path;
        NOT_OURS, LOCATION_AND_IF, line =>
            fastcgi_pass;
        NOT_OURS, LOCATION, line =>
            fastcgi_split_path_info;
    }
    FLV "flv" {
        NOT_OURS, LOCATION, line =>
            flv;
    }
    GEO "geo" {
        LATER, HTTP, block =>
            geo;
    }
    GEOIP "geoip" {
        LATER, HTTP, line =>
            geoip_country geoip_city geoip_org geoip_proxy;
        LATER, HTTP, off =>
            geoip_proxy_recursive;
    }
    GRPC "grpc" {
        NOT_OURS, ANY_HTTP, line =>
            grpc_allow_upstream grpc_bind grpc_buffer_size grpc_connect_timeout grpc_hide_header
            grpc_ignore_headers grpc_next_upstream grpc_next_upstream_timeout
            grpc_next_upstream_tries grpc_pass_header grpc_read_timeout grpc_send_timeout
            grpc_set_header grpc_socket_rcvbuf grpc_socket_sndbuf grpc_ssl_certificate
            grpc_ssl_certificate_key grpc_ssl_ciphers grpc_ssl_conf_command grpc_ssl_crl
            grpc_ssl_key_log grpc_ssl_name grpc_ssl_password_file grpc_ssl_protocols
            grpc_ssl_session_reuse grpc_ssl_trusted_certificate grpc_ssl_verify_depth;
        NOT_OURS, ANY_HTTP, off =>
            grpc_bind_dynamic grpc_intercept_errors grpc_request_dynamic grpc_socket_keepalive
            grpc_ssl_certificate_cache grpc_ssl_server_name grpc_ssl_verify;
        NOT_OURS, LOCATION_AND_IF, line =>
            grpc_pass;
    }
    GUNZIP "gunzip" {
        NO_GUNZIP, ANY_HTTP, off =>
            gunzip;
        NO_GUNZIP, ANY_HTTP, line =>
            gunzip_buffers;
    }
    GZIP "gzip" {
        NO_GZIP, WITH_IF, off =>
            gzip;
        NO_GZIP, ANY_HTTP, line =>
            gzip_buffers gzip_comp_level gzip_disable gzip_http_version gzip_min_length gzip_types;
        NO_GZIP, ANY_HTTP, off =>
            gzip_proxied gzip_vary;
    }
    GZIP_STATIC "gzip_static" {
        NO_GZIP_STATIC, ANY_HTTP, off =>
            gzip_static;
    }
    HLS "hls" {
        COMMERCIAL, LOCATION, line =>
            hls;
        COMMERCIAL, ANY_HTTP, line =>
            hls_buffers hls_fragment hls_mp4_buffer_size hls_mp4_max_buffer_size;
        COMMERCIAL, ANY_HTTP, off =>
            hls_forward_args;
    }
    IMAGE_FILTER "image_filter" {
        NOT_OURS, LOCATION, off =>
            image_filter;
        NOT_OURS, ANY_HTTP, line =>
            image_filter_buffer image_filter_jpeg_quality image_filter_sharpen
            image_filter_transparency image_filter_webp_quality;
        NOT_OURS, ANY_HTTP, off =>
            image_filter_interlace;
    }
    INTERNAL_REDIRECT "internal_redirect" {
        LATER, SERVER_LOCATION, line =>
            internal_redirect;
    }
    JS "js" {
        NOT_OURS, INNER, line =>
            js_body_filter js_access js_content js_header_filter;
        NOT_OURS, ANY_HTTP, line =>
            js_context_reuse js_engine js_fetch_buffer_size js_fetch_ciphers
            js_fetch_max_response_buffer_size js_fetch_protocols js_fetch_timeout
            js_fetch_trusted_certificate js_fetch_verify js_fetch_verify_depth js_fetch_proxy
            js_fetch_keepalive js_fetch_keepalive_requests js_fetch_keepalive_time
            js_fetch_keepalive_timeout js_import js_path js_preload_object js_set js_var;
        NOT_OURS, HTTP, line =>
            js_include js_shared_dict_zone;
        NOT_OURS, MAIN, line =>
            js_load_http_native_module;
        NOT_OURS, LOCATION, line =>
            js_periodic;
    }
    KEYVAL "keyval" {
        COMMERCIAL, HTTP, line =>
            keyval keyval_zone;
    }
    LIMIT_CONN "limit_conn" {
        LATER, ANY_HTTP, line =>
            limit_conn limit_conn_log_level limit_conn_status;
        LATER, ANY_HTTP, off =>
            limit_conn_dry_run;
        LATER, HTTP, line =>
            limit_conn_zone limit_zone;
    }
    LIMIT_REQ "limit_req" {
        LATER, ANY_HTTP, line =>
            limit_req limit_req_log_level limit_req_status;
        LATER, ANY_HTTP, off =>
            limit_req_dry_run;
        LATER, HTTP, line =>
            limit_req_zone;
    }
    MEMCACHED "memcached" {
        NOT_OURS, ANY_HTTP, line =>
            memcached_allow_upstream memcached_bind memcached_buffer_size memcached_connect_timeout
            memcached_gzip_flag memcached_next_upstream memcached_next_upstream_timeout
            memcached_next_upstream_tries memcached_read_timeout memcached_send_timeout;
        NOT_OURS, ANY_HTTP, off =>
            memcached_bind_dynamic memcached_socket_keepalive;
        NOT_OURS, LOCATION_AND_IF, line =>
            memcached_pass;
    }
    MIRROR "mirror" {
        LATER, ANY_HTTP, off =>
            mirror;
        LATER, ANY_HTTP, line =>
            mirror_request_body;
    }
    MP4 "mp4" {
        NOT_OURS, LOCATION, line =>
            mp4;
        NOT_OURS, ANY_HTTP, line =>
            mp4_buffer_size mp4_max_buffer_size mp4_limit_rate_after;
        NOT_OURS, ANY_HTTP, off =>
            mp4_limit_rate mp4_start_key_frame;
    }
    NUM_MAP "num_map" {
        LATER, HTTP, block =>
            num_map;
    }
    OIDC "oidc" {
        COMMERCIAL, HTTP, block =>
            oidc_provider;
        COMMERCIAL, ANY_HTTP, off =>
            auth_oidc;
    }
    PERL "perl" {
        NOT_OURS, LOCATION_AND_EXCEPT, line =>
            perl;
        NOT_OURS, HTTP, line =>
            perl_modules perl_require perl_set;
    }
    RANDOM_INDEX "random_index" {
        LATER, LOCATION, off =>
            random_index;
    }
    REALIP "realip" {
        LATER, ANY_HTTP, line =>
            set_real_ip_from real_ip_header;
        LATER, ANY_HTTP, off =>
            real_ip_recursive;
    }
    REFERER "referer" {
        LATER, SERVER_LOCATION, line =>
            referer_hash_bucket_size referer_hash_max_size valid_referers;
    }
    SCGI "scgi" {
        NOT_OURS, ANY_HTTP, line =>
            scgi_allow_upstream scgi_bind scgi_buffer_size scgi_buffering scgi_buffers
            scgi_busy_buffers_size scgi_cache_bypass scgi_cache_key scgi_cache_lock_age
            scgi_cache_lock_timeout scgi_cache_max_range_offset scgi_cache_methods
            scgi_cache_min_uses scgi_cache_purge scgi_cache_valid scgi_connect_timeout
            scgi_hide_header scgi_ignore_headers scgi_limit_rate scgi_max_temp_file_size
            scgi_next_upstream scgi_next_upstream_timeout scgi_next_upstream_tries scgi_no_cache
            scgi_param scgi_pass_header scgi_pass_request_body scgi_pass_request_headers
            scgi_read_timeout scgi_request_buffering scgi_send_timeout scgi_socket_rcvbuf
            scgi_socket_sndbuf scgi_store_access scgi_temp_file_write_size scgi_temp_path;
        NOT_OURS, ANY_HTTP, off =>
            scgi_bind_dynamic scgi_cache scgi_cache_background_update scgi_cache_lock
            scgi_cache_revalidate scgi_cache_use_stale scgi_force_ranges scgi_ignore_client_abort
            scgi_intercept_errors scgi_request_dynamic scgi_socket_keepalive scgi_store;
        NOT_OURS, HTTP, line =>
            scgi_cache_path;
        NOT_OURS, LOCATION_AND_IF, line =>
            scgi_pass;
    }
    SECURE_LINK "secure_link" {
        LATER, ANY_HTTP, line =>
            secure_link secure_link_md5;
        LATER, LOCATION, line =>
            secure_link_secret;
    }
    SESSION_LOG "session_log" {
        COMMERCIAL, ANY_HTTP, off =>
            session_log;
        COMMERCIAL, HTTP, line =>
            session_log_format session_log_zone;
    }
    SLICE "slice" {
        WHOLE, ANY_HTTP, line =>
            slice;
    }
    SPLIT_CLIENTS "split_clients" {
        LATER, HTTP, block =>
            split_clients;
    }
    SSI "ssi" {
        LATER, WITH_IF, off =>
            ssi;
        LATER, ANY_HTTP, off =>
            ssi_last_modified ssi_silent_errors;
        LATER, ANY_HTTP, line =>
            ssi_min_file_chunk ssi_types ssi_value_length;
    }
    SSL "ssl" {
        SSL_ON, HTTP_SERVER, off =>
            ssl;
        UNCOMPRESSED, HTTP_SERVER, off =>
            ssl_certificate_compression;
        NO_ECH, HTTP_SERVER, line =>
            ssl_ech_file;
        NO_KEY_LOG, HTTP_SERVER, line =>
            ssl_key_log;
    }
    STATUS "status" {
        COMMERCIAL, LOCATION, line =>
            status;
        COMMERCIAL, ANY_HTTP, line =>
            status_format;
    }
    STUB_STATUS "stub_status" {
        LATER, SERVER_LOCATION, line =>
            stub_status;
    }
    SUB "sub" {
        LATER, ANY_HTTP, line =>
            sub_filter sub_filter_once sub_filter_types;
        LATER, ANY_HTTP, off =>
            sub_filter_last_modified;
    }
    TUNNEL "tunnel" {
        LATER, ANY_HTTP, line =>
            tunnel_allow_upstream tunnel_bind tunnel_buffer_size tunnel_connect_timeout
            tunnel_next_upstream tunnel_next_upstream_timeout tunnel_next_upstream_tries
            tunnel_read_timeout tunnel_send_lowat tunnel_send_timeout tunnel_socket_rcvbuf
            tunnel_socket_sndbuf;
        LATER, ANY_HTTP, off =>
            tunnel_bind_dynamic tunnel_socket_keepalive;
        LATER, SERVER_LOCATION_IF, line =>
            tunnel_pass;
    }
    UPSTREAM_CONF "upstream_conf" {
        COMMERCIAL, LOCATION, line =>
            upstream_conf;
    }
    UPSTREAM_HC "upstream_hc" {
        COMMERCIAL, LOCATION, line =>
            health_check;
        COMMERCIAL, HTTP, block =>
            match;
    }
    USERID "userid" {
        LATER, ANY_HTTP, off =>
            userid userid_expires userid_flags userid_mark;
        LATER, ANY_HTTP, line =>
            userid_domain userid_name userid_p3p userid_path userid_service;
    }
    UWSGI "uwsgi" {
        NOT_OURS, ANY_HTTP, line =>
            uwsgi_allow_upstream uwsgi_bind uwsgi_buffer_size uwsgi_buffering uwsgi_buffers
            uwsgi_busy_buffers_size uwsgi_cache_bypass uwsgi_cache_key uwsgi_cache_lock_age
            uwsgi_cache_lock_timeout uwsgi_cache_max_range_offset uwsgi_cache_methods
            uwsgi_cache_min_uses uwsgi_cache_purge uwsgi_cache_valid uwsgi_connect_timeout
            uwsgi_hide_header uwsgi_ignore_headers uwsgi_limit_rate uwsgi_max_temp_file_size
            uwsgi_modifier1 uwsgi_modifier2 uwsgi_next_upstream uwsgi_next_upstream_timeout
            uwsgi_next_upstream_tries uwsgi_no_cache uwsgi_param uwsgi_pass_header
            uwsgi_pass_request_body uwsgi_pass_request_headers uwsgi_read_timeout
            uwsgi_request_buffering uwsgi_send_timeout uwsgi_socket_rcvbuf uwsgi_socket_sndbuf
            uwsgi_ssl_certificate uwsgi_ssl_certificate_key uwsgi_ssl_ciphers uwsgi_ssl_conf_command
            uwsgi_ssl_crl uwsgi_ssl_key_log uwsgi_ssl_name uwsgi_ssl_password_file
            uwsgi_ssl_protocols uwsgi_ssl_session_reuse uwsgi_ssl_trusted_certificate
            uwsgi_ssl_verify_depth uwsgi_store_access uwsgi_temp_file_write_size uwsgi_temp_path;
        NOT_OURS, ANY_HTTP, off =>
            uwsgi_bind_dynamic uwsgi_cache uwsgi_cache_background_update uwsgi_cache_lock
            uwsgi_cache_revalidate uwsgi_cache_use_stale uwsgi_force_ranges
            uwsgi_ignore_client_abort uwsgi_intercept_errors uwsgi_request_dynamic
            uwsgi_socket_keepalive uwsgi_ssl_certificate_cache uwsgi_ssl_server_name
            uwsgi_ssl_verify uwsgi_store;
        NOT_OURS, HTTP, line =>
            uwsgi_cache_path;
        NOT_OURS, LOCATION_AND_IF, line =>
            uwsgi_pass;
    }
    V2 "v2" {
        HTTP2, HTTP_SERVER, off =>
            http2;
        HTTP2, HTTP_SERVER, line =>
            http2_body_preread_size http2_idle_timeout http2_max_concurrent_pushes
            http2_max_concurrent_streams http2_max_field_size http2_max_header_size
            http2_max_requests http2_recv_timeout;
        HTTP2, ANY_HTTP, line =>
            http2_chunk_size;
        HTTP2, ANY_HTTP, off =>
            http2_push http2_push_preload;
        HTTP2, HTTP, line =>
            http2_recv_buffer_size;
    }
    V3 "v3" {
        HTTP3, HTTP_SERVER, line =>
            http3 http3_max_concurrent_streams http3_stream_buffer_size
            quic_active_connection_id_limit quic_host_key;
        HTTP3, HTTP_SERVER, off =>
            http3_hq quic_gso quic_retry;
        HTTP3, MAIN, off =>
            quic_bpf;
    }
    XSLT "xslt" {
        NOT_OURS, ANY_HTTP, line =>
            xml_entities xslt_param xslt_string_param xslt_types;
        NOT_OURS, ANY_HTTP, off =>
            xml_external_entities xslt_last_modified;
        NOT_OURS, LOCATION, line =>
            xslt_stylesheet;
    }
    CORE_THE_REST "core, the rest" {
        Sizing, EVENTS, off =>
            accept_mutex multi_accept;
        Sizing, EVENTS, line =>
            accept_mutex_delay stall_threshold use worker_aio_requests;
        Accepted("there is no debug log"), EVENTS, line =>
            debug_connection;
        Sizing, MAIN, line =>
            debug_points lock_file ssl_object_cache_inheritable thread_pool timer_resolution
            worker_cpu_affinity worker_rlimit_core;
        Accepted("the environment stays as it is"), MAIN, line =>
            env;
        Accepted("modules are compiled in: what this one has and we lack is refused where it is used"), MAIN, line =>
            load_module;
        Sizing, MAIN, off =>
            pcre_jit;
        LATER, MAIN, line =>
            ssl_engine;
        Accepted("the priority stays as it is"), MAIN, line =>
            worker_priority;
        Accepted("the working directory stays as it is"), MAIN, line =>
            working_directory;
    }
    GOOGLE_PERFTOOLS "google_perftools" {
        PERFTOOLS, MAIN, line =>
            google_perftools_profiles;
    }
    OTEL "otel" {
        LATER, HTTP, block =>
            otel_exporter;
        LATER, HTTP, line =>
            otel_service_name otel_resource_attr;
        LATER, ANY_HTTP, off =>
            otel_trace;
        LATER, ANY_HTTP, line =>
            otel_trace_context otel_span_name otel_span_attr;
    }
}
