//! Just enough of RFC 6455 for a thousand tunnels on one thread.
