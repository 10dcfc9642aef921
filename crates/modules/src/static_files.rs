//! Files: nginx's `index` and `static` modules, and what its core says when neither answers.

use std::fs::File;
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, UNIX_EPOCH};

use http::config::{ANY_HTTP, Args, Directive, Install, Merge, Module, ModuleConf, Problem, conf_of};
use http::log::Level;
use http::message::Body;
use http::{Flow, Phase, Redirect, Request, Template, clock, files, set};
use rustix::fs::{Mode, OFlags};
use rustix::io::Errno;
use wire::http1::{Escape, FieldId, Method, escape_uri};

/// nginx's `ngx_http_index_module` and `ngx_http_static_module`.
pub static MODULE: Module = Module {
    name: "static",
    doc: "Files, and the file that stands for a directory.",
    directives: &[Directive {
        name: "index",
        at: ANY_HTTP,
        args: Args::AtLeast(1),
        default: "index.html",
        doc: "Files that stand for their directory; the first that exists is served.",
        set: set!(Raw, |raw, line| {
            for index in 0..line.count() {
                if line.bytes(index).is_empty() {
                    return Err(Problem::new("index \"\" in \"index\" directive is invalid"));
                }
                let name = line.template(index)?;
                if line.bytes(index).starts_with(b"/") && index + 1 < line.count() {
                    line.warn("only the last index in \"index\" directive should be absolute");
                }
                raw.names.push(name);
            }
            Ok(())
        }),
        ..Directive::NONE
    }],
    conf: Some(conf_of::<Raw>()),
    install: Some(|conf, install| {
        if let Ok(index) = conf.clone().downcast::<Index>() {
            put_in(index, install);
        }
    }),
    ..Module::NONE
};

/// What a block wrote.
#[derive(Default)]
pub struct Raw {
    names: Vec<Template>,
}

/// `index`
#[derive(Default)]
pub struct Index(Vec<Template>);

impl ModuleConf for Raw {
    type Merged = Index;

    fn merge(self, outer: &Index, _at: &mut Merge<'_>) -> Result<Index, Problem> {
        Ok(Index(if self.names.is_empty() { outer.0.clone() } else { self.names }))
    }
}

fn put_in(index: Arc<Index>, install: &mut Install<'_>) {
    install.handler(Phase::Content, move |request| {
        if !request.uri.ends_with(b"/") {
            return file(request);
        }
        match index_of(&index, request) {
            Flow::Next => forbidden(request),
            flow => flow,
        }
    });
}

/// Redirects `/dir/` to the first index file that is there.
fn index_of(index: &Index, request: &mut Request) -> Flow {
    if !matches!(request.method, Method::Get | Method::Head | Method::Post) {
        return Flow::Next;
    }
    let mut directory_is_there = false;
    for name in &index.0 {
        let name = name.value(request);
        if name.first() == Some(&b'/') {
            return Flow::Redirect(Redirect::Uri(name, request.args.clone()));
        }
        let Some(directory) = files::path(request) else { return Flow::Status(500) };
        let full = [&directory[..], &name[..]].concat();
        let error = match metadata(&full) {
            Ok(_) => {
                let uri = [&request.uri[..], &name[..]].concat();
                return Flow::Redirect(Redirect::Uri(uri, request.args.clone()));
            }
            Err(error) => error,
        };
        if matches!(Errno::from_io_error(&error), Some(Errno::NOTDIR | Errno::NAMETOOLONG | Errno::ACCESS)) {
            return missing(request, &full, &error);
        }
        if !std::mem::replace(&mut directory_is_there, true) {
            let plain = directory.strip_suffix(b"/").unwrap_or(&directory);
            match metadata(plain) {
                Ok(found) if found.is_dir() => {}
                Ok(_) => {
                    let shown = String::from_utf8_lossy(plain).into_owned();
                    request.log(Level::Alert, format_args!("\"{shown}\" is not a directory"));
                    return Flow::Status(500);
                }
                Err(error) if Errno::from_io_error(&error) == Some(Errno::ACCESS) => {}
                Err(error) => return missing(request, &full, &error),
            }
        }
        if Errno::from_io_error(&error) != Some(Errno::NOENT) {
            failed(request, Level::Crit, "stat()", &full, &error);
            return Flow::Status(500);
        }
    }
    Flow::Next
}

fn metadata(path: &[u8]) -> io::Result<std::fs::Metadata> {
    std::fs::metadata(std::ffi::OsStr::from_bytes(path))
}

/// nginx's answer when a directory or its index cannot be looked at.
fn missing(request: &mut Request, path: &[u8], error: &io::Error) -> Flow {
    let path = String::from_utf8_lossy(path).into_owned();
    let text = sys::errno::text(error);
    if Errno::from_io_error(error) == Some(Errno::ACCESS) {
        request.log(Level::Error, format_args!("\"{path}\" is forbidden ({text})"));
        return Flow::Status(403);
    }
    if request.location().core.log_not_found {
        request.log(Level::Error, format_args!("\"{path}\" is not found ({text})"));
    }
    Flow::Status(404)
}

/// A directory that nobody lists.
fn forbidden(request: &mut Request) -> Flow {
    if !matches!(request.method, Method::Get | Method::Head | Method::Post) {
        return Flow::Status(405);
    }
    if let Some(path) = files::path(request) {
        let path = String::from_utf8_lossy(&path).into_owned();
        request.log(Level::Error, format_args!("directory index of \"{path}\" is forbidden"));
    }
    Flow::Status(403)
}

fn file(request: &mut Request) -> Flow {
    if !matches!(request.method, Method::Get | Method::Head | Method::Post) {
        return Flow::Status(405);
    }
    let Some(path) = files::path(request) else { return Flow::Status(500) };
    let file = match open(&path) {
        Ok(file) => file,
        Err(error) => return cannot_open(request, &path, &error),
    };
    let found = match file.metadata() {
        Ok(found) => found,
        Err(error) => {
            failed(request, Level::Crit, "fstat()", &path, &error);
            return Flow::Status(500);
        }
    };
    if found.is_dir() {
        return to_directory(request);
    }
    if !found.is_file() {
        let path = String::from_utf8_lossy(&path).into_owned();
        request.log(Level::Crit, format_args!("\"{path}\" is not a regular file"));
        return Flow::Status(404);
    }
    if request.method == Method::Post {
        return Flow::Status(405);
    }
    send(request, file, found.mtime(), found.len())
}

fn open(path: &[u8]) -> io::Result<File> {
    // A FIFO must not stop the worker.
    let flags = OFlags::RDONLY | OFlags::NONBLOCK | OFlags::CLOEXEC;
    let path = Path::new(std::ffi::OsStr::from_bytes(path));
    Ok(File::from(rustix::fs::open(path, flags, Mode::empty())?))
}

fn cannot_open(request: &mut Request, path: &[u8], error: &io::Error) -> Flow {
    let (level, status) = match Errno::from_io_error(error) {
        Some(Errno::NOENT | Errno::NOTDIR | Errno::NAMETOOLONG) => (Level::Error, 404),
        Some(Errno::ACCESS | Errno::MLINK | Errno::LOOP) => (Level::Error, 403),
        _ => (Level::Crit, 500),
    };
    if status != 404 || request.location().core.log_not_found {
        failed(request, level, "open()", path, error);
    }
    Flow::Status(status)
}

fn failed(request: &Request, level: Level, what: &str, path: &[u8], error: &io::Error) {
    let path = String::from_utf8_lossy(path);
    let text = sys::errno::text(error);
    request.log(level, format_args!("{what} \"{path}\" failed ({text})"));
}

fn to_directory(request: &mut Request) -> Flow {
    let mut location = Vec::with_capacity(request.uri.len() + 1);
    escape_uri(&request.uri, Escape::Uri, &mut location);
    location.push(b'/');
    if !request.args.is_empty() {
        location.push(b'?');
        location.extend_from_slice(&request.args);
    }
    request.response.location = Some(location);
    Flow::Status(301)
}

fn send(request: &mut Request, file: File, modified: i64, len: u64) -> Flow {
    let modified = u64::try_from(modified).unwrap_or_default();
    let etag = request.location().core.etag.then(|| format!("\"{modified:x}-{len:x}\"").into_bytes());
    let content_type = files::content_type(request);
    let allow_ranges = request.location().core.max_ranges > 0;
    let response = &mut request.response;
    response.last_modified = Some(clock::http_date(UNIX_EPOCH + Duration::from_secs(modified)).into_bytes());
    if let Some(etag) = etag {
        response.add_known(FieldId::Etag, b"ETag", &etag);
    }
    response.status = 200;
    response.content_type = Some(content_type);
    response.content_length = Some(len);
    response.allow_ranges = allow_ranges;
    response.body = Body::File(file, len);
    Flow::Respond
}
