//! The first minute: what runs when `tidegate` is started with no argument at all.
//!
//! Three things that fit together: a configuration people know (nginx's own WebSocket page, completed to a full file), a
//! small [`Backend`] to put behind it, and the page that backend serves, which opens its WebSockets through the proxy and
//! shows them. Nothing here proxies: the caller runs [`config`] like any other file, which is the point of the demo.
//!
//! ```text
//! let backend = demo::Backend::start()?;
//! let text = demo::config("127.0.0.1:8080", &backend.addr().to_string());
//! backend.publish(&text); // the page shows the text that really runs
//! print!("{}", demo::banner("http://127.0.0.1:8080/"));
//! ```

mod answer;
mod backend;
mod page;
mod room;
mod socket;

pub(crate) use backend::Backend;

/// A full nginx.conf that serves the demo on `listen` (what a `listen` directive takes: `127.0.0.1:8080`) in front of the
/// [`Backend`] at `backend` (`127.0.0.1:40123`). The lines of nginx's WebSocket page stand in it word for word.
///
/// It has no `pid` line, so that a demo leaves no file behind; a caller that needs one adds it outside this text.
pub(crate) fn config(listen: &str, backend: &str) -> String {
    include_str!("demo.conf").replace("{listen}", listen).replace("{backend}", backend)
}

/// What the terminal says once the demo answers on `url` (`http://127.0.0.1:8080/`): what runs, where, what to try next.
pub(crate) fn banner(url: &str) -> String {
    format!(
        "
  Tidegate is up, with a small echo and chat backend behind it.

    {url}

  The page holds two WebSockets open through the proxy. Ctrl-C ends it. Then:

    tidegate -t -c /etc/nginx/nginx.conf    what your own file would do here
    tidegate -c /etc/nginx/nginx.conf       run it
    tidegate proxy :8080 localhost:3000     no file, one backend

"
    )
}

#[cfg(test)]
mod tests;
