//! The kernel: epoll, sockets, descriptor passing, credentials, signals. The only home of `unsafe`.
