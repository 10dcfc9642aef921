//! What we do with the rest of nginx's language, as data (DESIGN D14): nothing is silently ignored.
//!
//! Refused is what would serve something its author did not want if it were ignored: access rules, limits, another
//! source of content. Accepted is what costs comfort or speed only, with the difference in words. Sizing is what an event
//! loop of another shape has no use for. A directive moves from here to a module of its own when it works.

use http::config::Answer::{Accepted, Refused, Sizing};
use http::config::{ANY_HTTP, Answer, Context, HTTP_SERVER, Module};

use crate::unused;

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
const WHEN_READ: Answer = Accepted("bodies are read when they are needed");
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

/// `answer, place, shape => names;` by nginx module; the shapes are those of [`unused`].
macro_rules! answers {
    ($($module:ident $name:literal { $($answer:expr, $at:expr , $shape:ident => $($directive:ident)*;)* })*) => {
        $(static $module: Module = Module {
            name: $name,
            directives: &[$($(unused::$shape.line(stringify!($directive), $at, $answer),)*)*],
            ..Module::NONE
        };)*
        /// The answers, a module for each of nginx's.
        pub static MODULES: &[&Module] = &[$(&$module,)*];
    };
}

answers! {
    STREAM "stream" {
        LATER, MAIN, BLOCK =>
            stream;
    }
    MAIL "mail" {
        NOT_OURS, MAIN, BLOCK =>
            mail;
    }
    ACCESS "access" {
        LATER, WITH_EXCEPT, LINE =>
            allow deny;
    }
    ACME "acme" {
        LATER, HTTP, BLOCK =>
            acme_issuer;
        LATER, HTTP, LINE =>
            acme_shared_zone;
        LATER, SERVER, LINE =>
            acme_certificate;
    }
    ADDITION "addition" {
        LATER, ANY_HTTP, LINE =>
            add_before_body add_after_body addition_types;
    }
    API "api" {
        COMMERCIAL, LOCATION, LINE =>
            api;
        COMMERCIAL, SERVER_LOCATION_IF, LINE =>
            status_zone;
    }
    AUTH_BASIC "auth_basic" {
        LATER, WITH_EXCEPT, LINE_OFF =>
            auth_basic;
        LATER, WITH_EXCEPT, LINE =>
            auth_basic_user_file;
    }
    AUTH_JWT "auth_jwt" {
        COMMERCIAL, WITH_EXCEPT, LINE_OFF =>
            auth_jwt;
        COMMERCIAL, HTTP, LINE =>
            auth_jwt_claim_set auth_jwt_header_set;
        COMMERCIAL, ANY_HTTP, LINE =>
            auth_jwt_key_cache auth_jwt_leeway;
        COMMERCIAL, WITH_EXCEPT, LINE =>
            auth_jwt_key_file auth_jwt_key_request auth_jwt_type auth_jwt_require;
    }
    AUTH_REQUEST "auth_request" {
        LATER, ANY_HTTP, LINE_OFF =>
            auth_request;
        LATER, ANY_HTTP, LINE =>
            auth_request_set;
    }
    AUTH_REQUIRE "auth_require" {
        COMMERCIAL, WITH_EXCEPT, LINE_OFF =>
            auth_require;
    }
    AUTOINDEX "autoindex" {
        NO_LISTING, ANY_HTTP, FLAG_OFF =>
            autoindex autoindex_localtime;
        NO_LISTING, ANY_HTTP, FLAG =>
            autoindex_exact_size;
        NO_LISTING, ANY_HTTP, AUTOINDEX_FORMAT =>
            autoindex_format;
    }
    BROWSER "browser" {
        LATER, ANY_HTTP, LINE =>
            ancient_browser ancient_browser_value modern_browser modern_browser_value;
    }
    CHARSET "charset" {
        NO_CHARSET, WITH_IF, TEXT_OR_OFF =>
            charset;
        NO_CHARSET, WITH_IF, FLAG_OFF =>
            override_charset;
        NO_CHARSET, HTTP, BLOCK =>
            charset_map;
        NO_CHARSET, ANY_HTTP, TYPES =>
            charset_types;
        NO_CHARSET, WITH_IF, TEXT =>
            source_charset;
    }
    HTTP_CORE_THE_REST "http_core, the rest" {
        Sizing, ANY_HTTP, SEND_LOWAT =>
            send_lowat;
        Sizing, ANY_HTTP, AIO =>
            aio;
        Sizing, ANY_HTTP, FLAG_OFF =>
            aio_write client_body_in_single_buffer open_file_cache_errors open_file_cache_events
            tcp_nopush;
        Sizing, ANY_HTTP, DIRECTIO =>
            directio;
        Sizing, ANY_HTTP, OPEN_FILE_CACHE =>
            open_file_cache;
        AUTH_DELAY, ANY_HTTP, TIME =>
            auth_delay;
        WHEN_READ, HTTP_SERVER, TEMPLATES =>
            client_body_early_read;
        LATER, WITH_IF, LINE =>
            post_action;
        LATER, ANY_HTTP, LINE_OFF =>
            client_body_in_file_only disable_symlinks;
        Sizing, ANY_HTTP, TEMP_PATH =>
            client_body_temp_path;
        Sizing, ANY_HTTP, OFFSET =>
            directio_alignment;
        Sizing, ANY_HTTP, NUMBER =>
            open_file_cache_min_uses types_hash_bucket_size types_hash_max_size;
        Sizing, ANY_HTTP, SECONDS =>
            open_file_cache_valid;
        Sizing, ANY_HTTP, BUFFERS =>
            output_buffers;
        Sizing, ANY_HTTP, SIZE =>
            postpone_output read_ahead sendfile_max_chunk subrequest_output_buffer_size;
        Sizing, HTTP_SERVER, POOL_SIZE =>
            connection_pool_size request_pool_size;
        Accepted("103 answers are not passed on"), ANY_HTTP, TEMPLATES =>
            early_hints;
        Accepted("error log lines carry no tags"), ANY_HTTP, ANY =>
            error_log_tag;
        LATER, LOCATION, BLOCK =>
            limit_except;
        Accepted("subrequests are not logged"), ANY_HTTP, FLAG_OFF =>
            log_subrequest;
        Accepted("redirects are never refreshes"), ANY_HTTP, FLAG_OFF =>
            msie_refresh;
        SATISFY, ANY_HTTP, SATISFY =>
            satisfy;
        Sizing, WITH_IF, FLAG_OFF =>
            sendfile;
        Sizing, HTTP, NUMBER =>
            server_names_hash_bucket_size server_names_hash_max_size variables_hash_bucket_size
            variables_hash_max_size;
    }
    DAV "dav" {
        NOT_OURS, ANY_HTTP, LINE_OFF =>
            create_full_put_path dav_methods;
        NOT_OURS, ANY_HTTP, LINE =>
            dav_access min_delete_depth;
    }
    EMPTY_GIF "empty_gif" {
        LATER, LOCATION, LINE =>
            empty_gif;
    }
    F4F "f4f" {
        COMMERCIAL, LOCATION, LINE =>
            f4f;
        COMMERCIAL, ANY_HTTP, LINE =>
            f4f_buffer_size;
    }
    FASTCGI "fastcgi" {
        NOT_OURS, ANY_HTTP, LINE =>
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
        NOT_OURS, ANY_HTTP, LINE_OFF =>
            fastcgi_bind_dynamic fastcgi_cache fastcgi_cache_background_update fastcgi_cache_lock
            fastcgi_cache_revalidate fastcgi_cache_use_stale fastcgi_force_ranges
            fastcgi_ignore_client_abort fastcgi_intercept_errors fastcgi_keep_conn
            fastcgi_request_dynamic fastcgi_socket_keepalive fastcgi_store;
        NOT_OURS, HTTP, LINE =>
            fastcgi_cache_path;
        NOT_OURS, LOCATION_AND_IF, LINE =>
            fastcgi_pass;
        NOT_OURS, LOCATION, LINE =>
            fastcgi_split_path_info;
    }
    FLV "flv" {
        NOT_OURS, LOCATION, LINE =>
            flv;
    }
    GEO "geo" {
        LATER, HTTP, BLOCK =>
            geo;
    }
    GEOIP "geoip" {
        LATER, HTTP, LINE =>
            geoip_country geoip_city geoip_org geoip_proxy;
        LATER, HTTP, LINE_OFF =>
            geoip_proxy_recursive;
    }
    GRPC "grpc" {
        NOT_OURS, ANY_HTTP, LINE =>
            grpc_allow_upstream grpc_bind grpc_buffer_size grpc_connect_timeout grpc_hide_header
            grpc_ignore_headers grpc_next_upstream grpc_next_upstream_timeout
            grpc_next_upstream_tries grpc_pass_header grpc_read_timeout grpc_send_timeout
            grpc_set_header grpc_socket_rcvbuf grpc_socket_sndbuf grpc_ssl_certificate
            grpc_ssl_certificate_key grpc_ssl_ciphers grpc_ssl_conf_command grpc_ssl_crl
            grpc_ssl_key_log grpc_ssl_name grpc_ssl_password_file grpc_ssl_protocols
            grpc_ssl_session_reuse grpc_ssl_trusted_certificate grpc_ssl_verify_depth;
        NOT_OURS, ANY_HTTP, LINE_OFF =>
            grpc_bind_dynamic grpc_intercept_errors grpc_request_dynamic grpc_socket_keepalive
            grpc_ssl_certificate_cache grpc_ssl_server_name grpc_ssl_verify;
        NOT_OURS, LOCATION_AND_IF, LINE =>
            grpc_pass;
    }
    GUNZIP "gunzip" {
        NO_GUNZIP, ANY_HTTP, FLAG_OFF =>
            gunzip;
        NO_GUNZIP, ANY_HTTP, BUFFERS =>
            gunzip_buffers;
    }
    GZIP "gzip" {
        NO_GZIP, WITH_IF, FLAG_OFF =>
            gzip;
        NO_GZIP, ANY_HTTP, BUFFERS =>
            gzip_buffers;
        NO_GZIP, ANY_HTTP, COMP_LEVEL =>
            gzip_comp_level;
        NO_GZIP, ANY_HTTP, GZIP_DISABLE =>
            gzip_disable;
        NO_GZIP, ANY_HTTP, HTTP_VERSION =>
            gzip_http_version;
        NO_GZIP, ANY_HTTP, SIZE =>
            gzip_min_length postpone_gzipping;
        NO_GZIP, ANY_HTTP, GZIP_WINDOW =>
            gzip_window;
        NO_GZIP, ANY_HTTP, GZIP_HASH =>
            gzip_hash;
        NO_GZIP, ANY_HTTP, TYPES =>
            gzip_types;
        NO_GZIP, ANY_HTTP, GZIP_PROXIED =>
            gzip_proxied;
        NO_GZIP, ANY_HTTP, FLAG_OFF =>
            gzip_no_buffer gzip_vary;
    }
    GZIP_STATIC "gzip_static" {
        NO_GZIP_STATIC, ANY_HTTP, GZIP_STATIC =>
            gzip_static;
    }
    HLS "hls" {
        COMMERCIAL, LOCATION, LINE =>
            hls;
        COMMERCIAL, ANY_HTTP, LINE =>
            hls_buffers hls_fragment hls_mp4_buffer_size hls_mp4_max_buffer_size;
        COMMERCIAL, ANY_HTTP, LINE_OFF =>
            hls_forward_args;
    }
    IMAGE_FILTER "image_filter" {
        NOT_OURS, LOCATION, LINE_OFF =>
            image_filter;
        NOT_OURS, ANY_HTTP, LINE =>
            image_filter_buffer image_filter_jpeg_quality image_filter_sharpen
            image_filter_transparency image_filter_webp_quality;
        NOT_OURS, ANY_HTTP, LINE_OFF =>
            image_filter_interlace;
    }
    INTERNAL_REDIRECT "internal_redirect" {
        LATER, SERVER_LOCATION, LINE =>
            internal_redirect;
    }
    JS "js" {
        NOT_OURS, INNER, LINE =>
            js_body_filter js_access js_content js_header_filter;
        NOT_OURS, ANY_HTTP, LINE =>
            js_context_reuse js_engine js_fetch_buffer_size js_fetch_ciphers
            js_fetch_max_response_buffer_size js_fetch_protocols js_fetch_timeout
            js_fetch_trusted_certificate js_fetch_verify js_fetch_verify_depth js_fetch_proxy
            js_fetch_keepalive js_fetch_keepalive_requests js_fetch_keepalive_time
            js_fetch_keepalive_timeout js_import js_path js_preload_object js_set js_var;
        NOT_OURS, HTTP, LINE =>
            js_include js_shared_dict_zone;
        NOT_OURS, MAIN, LINE =>
            js_load_http_native_module;
        NOT_OURS, LOCATION, LINE =>
            js_periodic;
    }
    KEYVAL "keyval" {
        COMMERCIAL, HTTP, LINE =>
            keyval keyval_zone;
    }
    LIMIT_CONN "limit_conn" {
        LATER, ANY_HTTP, LINE =>
            limit_conn limit_conn_log_level limit_conn_status;
        LATER, ANY_HTTP, LINE_OFF =>
            limit_conn_dry_run;
        LATER, HTTP, LINE =>
            limit_conn_zone limit_zone;
    }
    LIMIT_REQ "limit_req" {
        LATER, ANY_HTTP, LINE =>
            limit_req limit_req_log_level limit_req_status;
        LATER, ANY_HTTP, LINE_OFF =>
            limit_req_dry_run;
        LATER, HTTP, LINE =>
            limit_req_zone;
    }
    MEMCACHED "memcached" {
        NOT_OURS, ANY_HTTP, LINE =>
            memcached_allow_upstream memcached_bind memcached_buffer_size memcached_connect_timeout
            memcached_gzip_flag memcached_next_upstream memcached_next_upstream_timeout
            memcached_next_upstream_tries memcached_read_timeout memcached_send_timeout;
        NOT_OURS, ANY_HTTP, LINE_OFF =>
            memcached_bind_dynamic memcached_socket_keepalive;
        NOT_OURS, LOCATION_AND_IF, LINE =>
            memcached_pass;
    }
    MIRROR "mirror" {
        LATER, ANY_HTTP, LINE_OFF =>
            mirror;
        LATER, ANY_HTTP, LINE =>
            mirror_request_body;
    }
    MP4 "mp4" {
        NOT_OURS, LOCATION, LINE =>
            mp4;
        NOT_OURS, ANY_HTTP, LINE =>
            mp4_buffer_size mp4_max_buffer_size mp4_limit_rate_after;
        NOT_OURS, ANY_HTTP, LINE_OFF =>
            mp4_limit_rate mp4_start_key_frame;
    }
    NUM_MAP "num_map" {
        LATER, HTTP, BLOCK =>
            num_map;
    }
    OIDC "oidc" {
        COMMERCIAL, HTTP, BLOCK =>
            oidc_provider;
        COMMERCIAL, ANY_HTTP, LINE_OFF =>
            auth_oidc;
    }
    PERL "perl" {
        NOT_OURS, LOCATION_AND_EXCEPT, LINE =>
            perl;
        NOT_OURS, HTTP, LINE =>
            perl_modules perl_require perl_set;
    }
    RANDOM_INDEX "random_index" {
        LATER, LOCATION, LINE_OFF =>
            random_index;
    }
    REALIP "realip" {
        LATER, ANY_HTTP, LINE =>
            set_real_ip_from real_ip_header;
        LATER, ANY_HTTP, LINE_OFF =>
            real_ip_recursive;
    }
    REFERER "referer" {
        LATER, SERVER_LOCATION, LINE =>
            referer_hash_bucket_size referer_hash_max_size valid_referers;
    }
    SCGI "scgi" {
        NOT_OURS, ANY_HTTP, LINE =>
            scgi_allow_upstream scgi_bind scgi_buffer_size scgi_buffering scgi_buffers
            scgi_busy_buffers_size scgi_cache_bypass scgi_cache_key scgi_cache_lock_age
            scgi_cache_lock_timeout scgi_cache_max_range_offset scgi_cache_methods
            scgi_cache_min_uses scgi_cache_purge scgi_cache_valid scgi_connect_timeout
            scgi_hide_header scgi_ignore_headers scgi_limit_rate scgi_max_temp_file_size
            scgi_next_upstream scgi_next_upstream_timeout scgi_next_upstream_tries scgi_no_cache
            scgi_param scgi_pass_header scgi_pass_request_body scgi_pass_request_headers
            scgi_read_timeout scgi_request_buffering scgi_send_timeout scgi_socket_rcvbuf
            scgi_socket_sndbuf scgi_store_access scgi_temp_file_write_size scgi_temp_path;
        NOT_OURS, ANY_HTTP, LINE_OFF =>
            scgi_bind_dynamic scgi_cache scgi_cache_background_update scgi_cache_lock
            scgi_cache_revalidate scgi_cache_use_stale scgi_force_ranges scgi_ignore_client_abort
            scgi_intercept_errors scgi_request_dynamic scgi_socket_keepalive scgi_store;
        NOT_OURS, HTTP, LINE =>
            scgi_cache_path;
        NOT_OURS, LOCATION_AND_IF, LINE =>
            scgi_pass;
    }
    SECURE_LINK "secure_link" {
        LATER, ANY_HTTP, LINE =>
            secure_link secure_link_md5;
        LATER, LOCATION, LINE =>
            secure_link_secret;
    }
    SESSION_LOG "session_log" {
        COMMERCIAL, ANY_HTTP, LINE_OFF =>
            session_log;
        COMMERCIAL, HTTP, LINE =>
            session_log_format session_log_zone;
    }
    SLICE "slice" {
        WHOLE, ANY_HTTP, SIZE =>
            slice;
    }
    SPLIT_CLIENTS "split_clients" {
        LATER, HTTP, BLOCK =>
            split_clients;
    }
    SSI "ssi" {
        LATER, WITH_IF, LINE_OFF =>
            ssi;
        LATER, ANY_HTTP, LINE_OFF =>
            ssi_ignore_recycled_buffers ssi_last_modified ssi_silent_errors;
        LATER, ANY_HTTP, LINE =>
            ssi_min_file_chunk ssi_types ssi_value_length;
    }
    SSL "ssl" {
        SSL_ON, HTTP_SERVER, LINE_OFF =>
            ssl;
        UNCOMPRESSED, HTTP_SERVER, FLAG_OFF =>
            ssl_certificate_compression;
        NO_ECH, HTTP_SERVER, ANY_ONE =>
            ssl_ech_file;
        NO_KEY_LOG, HTTP_SERVER, TEXT =>
            ssl_key_log;
    }
    STATUS "status" {
        COMMERCIAL, LOCATION, LINE =>
            status;
        COMMERCIAL, ANY_HTTP, LINE =>
            status_format;
    }
    STUB_STATUS "stub_status" {
        LATER, SERVER_LOCATION, LINE =>
            stub_status;
    }
    SUB "sub" {
        LATER, ANY_HTTP, LINE =>
            sub_filter sub_filter_once sub_filter_types;
        LATER, ANY_HTTP, LINE_OFF =>
            sub_filter_last_modified;
    }
    TUNNEL "tunnel" {
        LATER, ANY_HTTP, LINE =>
            tunnel_allow_upstream tunnel_bind tunnel_buffer_size tunnel_connect_timeout
            tunnel_next_upstream tunnel_next_upstream_timeout tunnel_next_upstream_tries
            tunnel_read_timeout tunnel_send_lowat tunnel_send_timeout tunnel_socket_rcvbuf
            tunnel_socket_sndbuf;
        LATER, ANY_HTTP, LINE_OFF =>
            tunnel_bind_dynamic tunnel_socket_keepalive;
        LATER, SERVER_LOCATION_IF, LINE =>
            tunnel_pass;
    }
    UPSTREAM_CONF "upstream_conf" {
        COMMERCIAL, LOCATION, LINE =>
            upstream_conf;
    }
    UPSTREAM_HC "upstream_hc" {
        COMMERCIAL, LOCATION, LINE =>
            health_check;
        COMMERCIAL, HTTP, BLOCK =>
            match;
    }
    USERID "userid" {
        LATER, ANY_HTTP, LINE_OFF =>
            userid userid_expires userid_flags userid_mark;
        LATER, ANY_HTTP, LINE =>
            userid_domain userid_name userid_p3p userid_path userid_service;
    }
    UWSGI "uwsgi" {
        NOT_OURS, ANY_HTTP, LINE =>
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
            uwsgi_ssl_verify_depth uwsgi_store_access uwsgi_string uwsgi_temp_file_write_size
            uwsgi_temp_path;
        NOT_OURS, ANY_HTTP, LINE_OFF =>
            uwsgi_bind_dynamic uwsgi_cache uwsgi_cache_background_update uwsgi_cache_lock
            uwsgi_cache_revalidate uwsgi_cache_use_stale uwsgi_force_ranges
            uwsgi_ignore_client_abort uwsgi_intercept_errors uwsgi_request_dynamic
            uwsgi_socket_keepalive uwsgi_ssl_certificate_cache uwsgi_ssl_server_name
            uwsgi_ssl_verify uwsgi_store;
        NOT_OURS, HTTP, LINE =>
            uwsgi_cache_path;
        NOT_OURS, LOCATION_AND_IF, LINE =>
            uwsgi_pass;
    }
    V2 "v2" {
        HTTP2, HTTP_SERVER, FLAG_OFF =>
            http2;
        HTTP2, HTTP_SERVER, PREREAD_SIZE =>
            http2_body_preread_size;
        HTTP2, HTTP_SERVER, POOL_SIZE =>
            http2_pool_size;
        HTTP2, HTTP_SERVER, POWER_OF_TWO =>
            http2_streams_index_size;
        HTTP2, HTTP_SERVER, OBSOLETE =>
            http2_idle_timeout http2_max_concurrent_pushes http2_max_field_size
            http2_max_header_size http2_max_requests http2_recv_timeout;
        HTTP2, HTTP_SERVER, NUMBER =>
            http2_max_concurrent_streams;
        HTTP2, ANY_HTTP, CHUNK_SIZE =>
            http2_chunk_size;
        HTTP2, ANY_HTTP, OBSOLETE =>
            http2_push http2_push_preload;
        HTTP2, HTTP, RECV_BUFFER_SIZE =>
            http2_recv_buffer_size;
    }
    V3 "v3" {
        HTTP3, HTTP_SERVER, FLAG =>
            http3;
        HTTP3, HTTP_SERVER, NUMBER =>
            http3_max_concurrent_streams quic_active_connection_id_limit;
        HTTP3, HTTP_SERVER, SIZE =>
            http3_stream_buffer_size;
        HTTP3, HTTP_SERVER, TEXT =>
            quic_host_key;
        HTTP3, HTTP_SERVER, FLAG_OFF =>
            http3_hq quic_gso quic_retry;
        HTTP3, MAIN, FLAG_OFF =>
            quic_bpf;
    }
    XSLT "xslt" {
        NOT_OURS, ANY_HTTP, LINE =>
            xml_entities xslt_param xslt_string_param xslt_types;
        NOT_OURS, ANY_HTTP, LINE_OFF =>
            xml_external_entities xslt_last_modified;
        NOT_OURS, LOCATION, LINE =>
            xslt_stylesheet;
    }
    CORE_THE_REST "core, the rest" {
        Sizing, EVENTS, FLAG_OFF =>
            accept_mutex multi_accept;
        Sizing, EVENTS, TIME =>
            accept_mutex_delay stall_threshold;
        Sizing, EVENTS, USE =>
            use;
        Sizing, EVENTS, NUMBER =>
            epoll_events worker_aio_requests;
        Accepted("there is no debug log"), EVENTS, ANY_ONE =>
            debug_connection;
        Sizing, MAIN, DEBUG_POINTS =>
            debug_points;
        Sizing, MAIN, TEXT =>
            lock_file;
        Sizing, MAIN, FLAG =>
            ssl_object_cache_inheritable;
        Sizing, MAIN, THREAD_POOL =>
            thread_pool;
        Sizing, MAIN, TIME =>
            timer_resolution;
        Sizing, MAIN, WORKER_CPU_AFFINITY =>
            worker_cpu_affinity;
        Sizing, MAIN, OFFSET =>
            worker_rlimit_core;
        Accepted("the environment stays as it is"), MAIN, ANY_ONE =>
            env;
        Accepted("modules are compiled in: what this one has and we lack is refused where it is used"), MAIN, ANY_ONE =>
            load_module;
        Sizing, MAIN, FLAG_OFF =>
            pcre_jit;
        LATER, MAIN, LINE =>
            ssl_engine;
        Accepted("the priority stays as it is"), MAIN, PRIORITY =>
            worker_priority;
        Accepted("the working directory stays as it is"), MAIN, TEXT =>
            working_directory;
    }
    GOOGLE_PERFTOOLS "google_perftools" {
        PERFTOOLS, MAIN, TEXT =>
            google_perftools_profiles;
    }
    OTEL "otel" {
        LATER, HTTP, BLOCK =>
            otel_exporter;
        LATER, HTTP, LINE =>
            otel_service_name otel_resource_attr;
        LATER, ANY_HTTP, LINE_OFF =>
            otel_trace;
        LATER, ANY_HTTP, LINE =>
            otel_trace_context otel_span_name otel_span_attr;
    }
}
