//! What holds for WebSockets in a block; filled by the `websocket` directives, asked by whoever passes handshakes on.

/// `websocket`
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub enum WebsocketMode {
    /// A valid handshake is upgraded.
    #[default]
    Auto,
    /// Only what `proxy_set_header` says is sent, as nginx does.
    Manual,
    /// Handshakes are answered 403.
    Off,
}

/// What holds in a block.
#[derive(Clone, Debug, Default)]
pub struct Websocket {
    /// `websocket`
    pub mode: WebsocketMode,
    /// `websocket_idle_timeout`, milliseconds.
    pub idle_ms: Option<u64>,
    /// `websocket_fin_timeout`, milliseconds.
    pub fin_ms: u64,
    /// `websocket_buffer`, bytes.
    pub buffer_bytes_max: usize,
    /// `websocket_reload close`
    pub close_on_reload: bool,
}
