//! What a request is: directives, variables, phases, filters, snapshot, logs.
#![forbid(unsafe_code)]
