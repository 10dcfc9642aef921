//! nginx.conf as a language: tokens, blocks, includes, spans, diagnostics.
#![forbid(unsafe_code)]
